package agent

// heapMonitor is Envoy's monitor of its heap.
const heapMonitor = "envoy.resource_monitors.fixed_heap"

// maxHeap monitors the heap against a bound in bytes.
func maxHeap(bytes uint64) object {
	return object{"name": heapMonitor, "typed_config": typed("envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig", object{
		"max_heap_size_bytes": bytes,
	})}
}

// overloadAction is taken while one of the triggers is above its threshold.
func overloadAction(name string, triggers ...object) object {
	return object{"name": "envoy.overload_actions." + name, "triggers": triggers}
}

func aboveHeap(share float64) object {
	return object{"name": heapMonitor, "threshold": object{"value": share}}
}

// between is a trigger of an action that is taken more and more.
func between(monitor string, from, to float64) object {
	return object{"name": monitor, "scaled": object{"scaling_threshold": from, "saturation_threshold": to}}
}
