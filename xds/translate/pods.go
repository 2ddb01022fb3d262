package translate

import (
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// setPod takes a pod. A pod and its endpoint come over two watches, in any order.
func (t *Translator) setPod(now *mesh.Pod) {
	before := t.pods.Get(now.Key)
	if reflect.DeepEqual(before, now) {
		return // as after most changes of a pod's status
	}
	if before != nil && before.UID != now.UID {
		t.changed.gone = append(t.changed.gone, before)
	}
	t.pods.Set(now)
	t.changed.pods.Insert(now.Key)
	t.changed.problems[mesh.ID{Kind: mesh.KindPod, Key: now.Key}] = now.Problems
	t.notePod(before)
	t.notePod(now)
}

func (t *Translator) deletePod(key mesh.Key) {
	before := t.pods.Get(key)
	if before == nil {
		return
	}
	t.pods.Delete(key)
	t.changed.gone = append(t.changed.gone, before)
	t.changed.problems[mesh.ID{Kind: mesh.KindPod, Key: key}] = nil
	t.notePod(before)
}

// notePod notes what depends on the old or the new state of a pod. pod may be nil.
func (t *Translator) notePod(pod *mesh.Pod) {
	if pod == nil {
		return
	}
	t.changed.addrs.Insert(pod.IPs...)
	t.changed.policies.Insert(pod.Namespace)
	t.changed.endpoints.Insert(t.depend.ofPod(pod.Key).UnsortedList()...)
}

func (t *Translator) setNamespace(ns *metav1.PartialObjectMetadata) {
	now := labels.Set(ns.Labels)
	if now == nil {
		now = labels.Set{}
	}
	t.setNamespaceLabels(ns.Name, now)
	if t.pods != nil {
		t.setNamespaceMTLS(ns)
	}
}

func (t *Translator) setNamespaceMTLS(ns *metav1.PartialObjectMetadata) {
	now, problems := mesh.BuildNamespace(ns)
	t.changed.problems[mesh.ID{Kind: mesh.KindNamespace, Key: mesh.Key{Name: ns.Name}}] = problems
	before, known := t.namespaces[ns.Name]
	t.namespaces[ns.Name] = now
	if !known || !reflect.DeepEqual(before, now) {
		t.changePodsIn(ns.Name)
	}
}

// changePodsIn makes Urgent compute again what all pods of a namespace accept.
func (t *Translator) changePodsIn(namespace string) {
	if t.pods == nil {
		return
	}
	for pod := range t.pods.In(namespace) {
		t.changed.pods.Insert(pod.Key)
	}
}
