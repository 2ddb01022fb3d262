package xds

import (
	"maps"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// policies are the AuthorizationPolicies of each namespace by name.
type policies map[string]map[mesh.Key]mesh.PodPolicy

func (p policies) set(key mesh.Key, policy mesh.PodPolicy) {
	if p[key.Namespace] == nil {
		p[key.Namespace] = map[mesh.Key]mesh.PodPolicy{}
	}
	p[key.Namespace][key] = policy
}

func (p policies) delete(key mesh.Key) {
	delete(p[key.Namespace], key)
	if len(p[key.Namespace]) == 0 {
		delete(p, key.Namespace)
	}
}

// of are those that hold for a pod.
func (p policies) of(pod *mesh.Pod) []mesh.Policy {
	return mesh.PoliciesOf(pod, maps.Values(p[pod.Namespace]))
}

// firstPolicies reads all policies. What is returned is to be said when they hold.
func (c *Controller) firstPolicies() []status.Status {
	var out []status.Status
	for _, o := range c.opt.Source.Objects(kube.AuthorizationPolicy, "") {
		key := mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()}
		out = append(out, c.takePolicy(kube.ID{Kind: kube.AuthorizationPolicy, Key: key})...)
	}
	return out
}

// takePolicies reads those anew that have changed.
func (c *Controller) takePolicies(changes kube.Changes) []status.Status {
	var out []status.Status
	for id := range changes.Objects {
		if id.Kind == kube.AuthorizationPolicy {
			out = append(out, c.takePolicy(id)...)
		}
	}
	return out
}

// takePolicy reads a policy anew.
func (c *Controller) takePolicy(id kube.ID) []status.Status {
	o, ok := c.opt.Source.Object(id).(*v1alpha1.AuthorizationPolicy)
	if !ok {
		c.inbounds.policies.delete(id.Key)
		c.opt.Statuses.Forget(id)
		return nil
	}
	c.inbounds.policies.set(id.Key, mesh.BuildPodPolicy(o))
	return []status.Status{{Object: id, Generation: o.Generation, Conditions: mesh.PolicyConditions(o, c.pods != nil)}}
}
