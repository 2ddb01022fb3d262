package envoy

import "github.com/mizzen-mesh/mizzen/internal/node"

// Change is what is published as one.
type Change struct {
	// Set adds or replaces resources. All variants of a name come together.
	Set []Resource
	// Remove names resources that are no more. What is also in Set stays.
	Remove []ID
	// Classes gives pods the class of which they get resources (Resource.Class), in place of the one that they had; an
	// empty one forgets the pod.
	Classes map[node.Pod]string
}

// Classify gives a pod a class.
func (c *Change) Classify(pod node.Pod, class string) {
	if c.Classes == nil {
		c.Classes = map[node.Pod]string{}
	}
	c.Classes[pod] = class
}

// Empty reports whether a change changes nothing.
func (c *Change) Empty() bool { return len(c.Set)+len(c.Remove)+len(c.Classes) == 0 }
