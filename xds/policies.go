package xds

import (
	"iter"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// byNamespace is what is known of objects of a kind, of each namespace by name.
type byNamespace[T any] map[string]map[mesh.Key]T

func (n byNamespace[T]) set(key mesh.Key, is T) {
	if n[key.Namespace] == nil {
		n[key.Namespace] = map[mesh.Key]T{}
	}
	n[key.Namespace][key] = is
}

func (n byNamespace[T]) delete(key mesh.Key) {
	delete(n[key.Namespace], key)
	if len(n[key.Namespace]) == 0 {
		delete(n, key.Namespace)
	}
}

// of is what is known of the objects in a namespace, in no order.
func (n byNamespace[T]) of(namespace string) iter.Seq[T] { return maps.Values(n[namespace]) }

// firstPolicies reads all policies.
func (c *Controller) firstPolicies() {
	for _, o := range c.opt.Source.Objects(kube.AuthorizationPolicy, "") {
		c.takePolicy(mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()})
	}
}

// takePolicies reads those anew that have changed. It gives the namespaces that have them.
func (c *Controller) takePolicies(changes kube.Changes) sets.Set[string] {
	namespaces := sets.Set[string]{}
	for id := range changes.Objects {
		if id.Kind == kube.AuthorizationPolicy {
			c.takePolicy(id.Key)
			namespaces.Insert(id.Namespace)
		}
	}
	return namespaces
}

// takePolicy reads a policy anew.
func (c *Controller) takePolicy(key mesh.Key) {
	id := kube.ID{Kind: kube.AuthorizationPolicy, Key: key}
	o, ok := c.opt.Source.Object(id).(*v1alpha1.AuthorizationPolicy)
	if !ok {
		c.inbounds.policies.delete(key)
		delete(c.said, key)
		c.opt.Statuses.Forget(id)
		return
	}
	c.inbounds.policies.set(key, mesh.BuildPodPolicy(o))
	delete(c.said, key)
}

// sayPolicies gives what is to be said of the policies of these namespaces and has not been said yet. It depends on
// their pods and on each other.
func (c *Controller) sayPolicies(namespaces sets.Set[string]) []status.Status {
	var out []status.Status
	for namespace := range namespaces {
		all := slices.Collect(maps.Values(c.inbounds.policies[namespace]))
		for key, policy := range c.inbounds.policies[namespace] {
			o, ok := c.opt.Source.Object(kube.ID{Kind: kube.AuthorizationPolicy, Key: key}).(*v1alpha1.AuthorizationPolicy)
			if !ok {
				continue // its end comes as a change, too
			}
			conditions := mesh.PolicyConditions(o, c.pods != nil)
			if c.pods != nil && conditions[0].True {
				conditions = append(conditions, mesh.EffectOf(policy, c.pods.In(namespace), all).Condition())
			}
			if reflect.DeepEqual(c.said[key], conditions) {
				continue
			}
			c.said[key] = conditions
			out = append(out, status.Status{Object: kube.ID{Kind: kube.AuthorizationPolicy, Key: key}, Generation: o.Generation, Conditions: conditions})
		}
	}
	return out
}
