package xds

import (
	"reflect"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// inbounds are what the pods of the mesh take. Pods that take the same are a class, whose listener is published while
// there are some.
type inbounds struct {
	cfg        *config.Mesh
	namespaces map[string]config.MTLS
	policies   byNamespace[mesh.PodPolicy]
	declared   byNamespace[mesh.Declared] // what Services say of the protocols of their pods
	classes    map[node.Pod]string
	judged     map[node.Pod]string // by these policies (mesh.PolicyHash)
	pods       map[string]int      // of each class
}

func newInbounds(cfg *config.Mesh) *inbounds {
	return &inbounds{cfg: cfg, namespaces: map[string]config.MTLS{}, policies: byNamespace[mesh.PodPolicy]{}, declared: byNamespace[mesh.Declared]{}, classes: map[node.Pod]string{}, judged: map[node.Pod]string{}, pods: map[string]int{}}
}

// setNamespace takes what a namespace says now; it reports whether that is something else, or its first word.
func (c *Controller) setNamespace(ns *metav1.PartialObjectMetadata) (changed bool) {
	now, problems := mesh.BuildNamespace(ns)
	c.tell(mesh.Object{Kind: mesh.KindNamespace, Key: mesh.Key{Name: ns.Name}}, problems)
	before, known := c.inbounds.namespaces[ns.Name]
	changed = !known || !reflect.DeepEqual(before, now)
	c.inbounds.namespaces[ns.Name] = now
	return changed
}

// set adds to the change what a pod takes now. Within one change it is called once for a pod. It reports whether other
// policies hold for the pod than before. Pods and namespaces come over two watches: a pod whose namespace is not known
// yet has no class until it is, because it may be a strict one.
func (i *inbounds) set(pod *mesh.Pod, change *server.Change) (judgedAnew bool) {
	namespace, known := i.namespaces[pod.Namespace]
	if !pod.Meshed || !known {
		return false
	}
	in := mesh.BuildInbound(pod.MTLS, namespace, i.cfg.MTLS.Mode)
	if in.Policies = mesh.PoliciesOf(pod, i.policies.of(pod.Namespace)); len(in.Policies) > 0 {
		in.DeclareHTTP(mesh.HTTPPorts(pod, i.declared.of(pod.Namespace)))
	}
	id, class := podID(pod), in.String()
	before, policies := i.classes[id], mesh.PolicyHash(in.Policies)
	if class == before {
		return false
	}
	judgedAnew = before != "" && policies != i.judged[id]
	i.judged[id] = policies
	if i.pods[class]++; i.pods[class] == 1 {
		change.Set = append(change.Set, envoy.SecureInboundListeners(in, i.cfg)...)
	}
	i.classes[id] = class
	change.Classify(id, class)
	i.release(before, change)
	return judgedAnew
}

// delete takes away a pod that is gone.
func (i *inbounds) delete(pod *mesh.Pod, change *server.Change) {
	id := podID(pod)
	if class, ok := i.classes[id]; ok {
		delete(i.classes, id)
		delete(i.judged, id)
		change.Classify(id, "")
		i.release(class, change)
	}
}

func (i *inbounds) release(class string, change *server.Change) {
	if class == "" {
		return
	}
	if i.pods[class]--; i.pods[class] == 0 {
		delete(i.pods, class)
		change.Remove = append(change.Remove, envoy.InboundListener.Of(class))
	}
}

func podID(pod *mesh.Pod) node.Pod {
	return node.Pod{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}
