package translate

import (
	"maps"
	"reflect"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// setAuthorization takes an AuthorizationPolicy; now is nil if it was deleted.
func (t *Translator) setAuthorization(id mesh.ID, now metav1.Object) {
	if o, ok := now.(*v1alpha1.AuthorizationPolicy); ok {
		t.policies.set(id.Key, mesh.BuildPodPolicy(o))
	} else {
		t.policies.delete(id.Key)
		t.changed.deleted = append(t.changed.deleted, id)
	}
	delete(t.policyStatus, id.Key)
	t.changed.policies.Insert(id.Namespace)
	t.changePodsIn(id.Namespace)
}

// policyStatuses adds the statuses of AuthorizationPolicies that have changed. They depend on pods and on the other policies of
// the namespace.
func (t *Translator) policyStatuses(r *Result) {
	for namespace := range t.changed.policies {
		all := slices.Collect(t.policies.of(namespace))
		for _, key := range slices.SortedFunc(maps.Keys(t.policies[namespace]), mesh.Key.Compare) {
			status := t.statusOf(key, all)
			if !reflect.DeepEqual(t.policyStatus[key], status) {
				t.policyStatus[key] = status
				r.PolicyStatuses = append(r.PolicyStatuses, status)
			}
		}
	}
	r.DeletedPolicies = t.changed.deleted
}

func (t *Translator) statusOf(key mesh.Key, all []mesh.PodPolicy) mesh.Status {
	id := mesh.ID{Kind: mesh.KindAuthorizationPolicy, Key: key}
	o := t.objects[id].(*v1alpha1.AuthorizationPolicy)
	conditions := mesh.PolicyConditions(o, t.pods != nil)
	if t.pods != nil && conditions[0].True {
		conditions = append(conditions, mesh.EffectOf(t.policies[key.Namespace][key], t.pods.In(key.Namespace), all).Condition())
	}
	return mesh.Status{Object: id, Generation: o.Generation, Conditions: conditions}
}
