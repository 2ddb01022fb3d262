package envoy

import "github.com/mizzen-mesh/mizzen/internal/node"

// Change is a set of changes that are published together.
type Change struct {
	// Set adds or replaces resources. It has all variants of a name.
	Set []Resource
	// Remove names resources to remove. A resource that is also in Set stays.
	Remove []ID
	// Classes has the new classes of pods, by which they get resources (Resource.Class). An empty class forgets the pod.
	Classes map[node.Pod]string
	// Zones has the new zones of Kubernetes nodes, by which proxies get endpoints. An empty zone forgets the node.
	Zones map[string]string
}

// Classify sets a pod's class.
func (c *Change) Classify(pod node.Pod, class string) {
	if c.Classes == nil {
		c.Classes = map[node.Pod]string{}
	}
	c.Classes[pod] = class
}

// Empty reports whether the change changes nothing.
func (c *Change) Empty() bool { return len(c.Set)+len(c.Remove)+len(c.Classes)+len(c.Zones) == 0 }
