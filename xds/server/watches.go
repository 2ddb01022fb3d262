package server

import (
	"github.com/go-logr/logr"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// watches are the names whose changes the store reports to one stream. Those of resources that are made on demand
// (OnDemand) are bounded: each costs the control plane work.
type watches struct {
	store   *Store
	watcher watcher
	metrics *metrics
	log     logr.Logger
	// onDemand are the watched names whose resources are made on demand.
	onDemand map[envoy.ID]struct{}
}

// add watches a name. Beyond the bound, a resource that is made on demand does not exist for this proxy.
func (w *watches) add(id envoy.ID) {
	if id.Type == envoy.ScopedRouteType {
		return // the store has none: they change with their routes (demands)
	}
	if w.store.madeOnDemand(id) {
		if _, has := w.onDemand[id]; !has && len(w.onDemand) >= maxMade {
			// Our agent keeps within the bound: it gives up an idle address before it asks for another.
			w.metrics.beyond.Inc()
			w.log.Info("refused a sidecar's request for a pod address: it has too many at a time", "name", id.Name, "most", maxMade)
			return
		}
		if w.onDemand == nil {
			w.onDemand = map[envoy.ID]struct{}{}
		}
		w.onDemand[id] = struct{}{}
	}
	w.store.watch(id, w.watcher)
}

func (w *watches) remove(id envoy.ID) {
	delete(w.onDemand, id)
	w.store.unwatch(id, w.watcher)
}

// awaits reports whether this proxy waits for a resource that is made on demand. If the store has none, it is not made
// yet, or cannot be made at the moment.
func (w *watches) awaits(id envoy.ID) bool {
	_, asked := w.onDemand[id]
	return asked
}
