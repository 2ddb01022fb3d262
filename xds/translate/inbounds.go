package translate

import (
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// inbounds groups the pods of the mesh by what they accept. Such a class has one listener while it has pods.
type inbounds struct {
	classes     map[node.Pod]string
	policies    map[node.Pod]string // that hold for the pod (mesh.PolicyHash)
	podsInClass map[string]int
}

func newInbounds() *inbounds {
	return &inbounds{classes: map[node.Pod]string{}, policies: map[node.Pod]string{}, podsInClass: map[string]int{}}
}

// classify adds what pods take now.
func (t *Translator) classify(r *Result) {
	for _, pod := range t.changed.gone {
		t.inbounds.delete(pod, &r.Change)
	}
	for key := range t.changed.pods {
		pod := t.pods.Get(key)
		if pod == nil {
			continue // gone since
		}
		in, known := t.inbound(pod)
		if !known {
			t.inbounds.delete(pod, &r.Change)
		} else if t.inbounds.set(pod, in, &r.Change, t.listenersOf) {
			for service := range t.depend.ofPod(key) {
				t.reconnectPending.Insert(service)
				r.Reconnect.Insert(service)
			}
		}
	}
}

// inbound returns what a pod of the mesh accepts. It is not known before the pod's namespace is, which comes over another watch
// and may be strict.
func (t *Translator) inbound(pod *mesh.Pod) (in mesh.Inbound, known bool) {
	namespace, known := t.namespaces[pod.Namespace]
	if !pod.Meshed || !known {
		return in, false
	}
	in = mesh.BuildInbound(pod.MTLS, namespace, t.cfg.MTLS.Mode)
	if in.Policies = mesh.PoliciesOf(pod, t.policies.of(pod.Namespace)); len(in.Policies) > 0 {
		in.DeclareHTTP(mesh.HTTPPorts(pod, t.declared.of(pod.Namespace)))
	}
	return in, true
}

func (t *Translator) listenersOf(in mesh.Inbound) []envoy.Resource {
	return envoy.SecureInboundListeners(in, t.cfg)
}

// set updates the class of a pod, once in a change. It reports whether other policies hold for the pod than before.
func (i *inbounds) set(pod *mesh.Pod, in mesh.Inbound, change *envoy.Change, listeners func(mesh.Inbound) []envoy.Resource) (policiesChanged bool) {
	id, class := podID(pod), in.String()
	before, policies := i.classes[id], mesh.PolicyHash(in.Policies)
	if class == before {
		return false
	}
	policiesChanged = before != "" && policies != i.policies[id]
	i.policies[id] = policies
	if i.podsInClass[class]++; i.podsInClass[class] == 1 {
		change.Set = append(change.Set, listeners(in)...)
	}
	i.classes[id] = class
	change.Classify(id, class)
	i.release(before, change)
	return policiesChanged
}

// delete takes away a deleted pod.
func (i *inbounds) delete(pod *mesh.Pod, change *envoy.Change) {
	id := podID(pod)
	if class, ok := i.classes[id]; ok {
		delete(i.classes, id)
		delete(i.policies, id)
		change.Classify(id, "")
		i.release(class, change)
	}
}

func (i *inbounds) release(class string, change *envoy.Change) {
	if class == "" {
		return
	}
	if i.podsInClass[class]--; i.podsInClass[class] == 0 {
		delete(i.podsInClass, class)
		change.Remove = append(change.Remove, envoy.InboundListener.Of(class))
	}
}

func podID(pod *mesh.Pod) node.Pod {
	return node.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}
