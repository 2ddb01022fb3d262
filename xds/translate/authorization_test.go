package translate

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// follower takes what comes of a Translator as the controller does, and has it built.
type follower struct {
	t *testing.T
	*Translator
	*published
}

func newFollower(t *testing.T, cfg *config.Mesh, objects ...metav1.Object) *follower {
	t.Helper()
	f := &follower{t, New(cfg), newPublished()}
	for _, o := range objects {
		f.Set(o)
	}
	f.take(f.Build())
	return f
}

func (f *follower) take(r *Result) {
	f.t.Helper()
	if err := f.apply(r); err != nil {
		f.t.Fatal(err)
	}
}

// urgent sets objects and takes what is urgent; it reports whether there is something to build.
func (f *follower) urgent(objects ...metav1.Object) (held bool) {
	f.t.Helper()
	for _, o := range objects {
		f.Set(o)
	}
	now, held := f.Urgent()
	f.take(now)
	return held
}

// gone deletes an object and takes what is urgent.
func (f *follower) gone(o metav1.Object) {
	f.t.Helper()
	id, _ := IDOf(o)
	f.Delete(id)
	f.urgent()
}

// class of a pod of namespace shop.
func (f *follower) class(name string) string {
	return f.inbounds.classes[node.Pod{Namespace: "shop", Name: name, UID: "uid-of-x"}]
}

func (f *follower) judged(name string) bool { return strings.Contains(f.class(name), "policies=") }

// listener reports whether there is an inbound listener of a class.
func (f *follower) listener(class string) bool {
	for id := range f.resources {
		if id.Type == envoy.ListenerType && strings.HasPrefix(id.Name, "inbound/"+class) {
			return true
		}
	}
	return false
}

// effect is the reason of the condition Effective of a policy of namespace shop.
func (f *follower) effect(name string) string {
	s := f.whole[mesh.ID{Kind: mesh.KindAuthorizationPolicy, Key: mesh.Key{Namespace: "shop", Name: name}}]
	if len(s.Conditions) != 2 {
		return ""
	}
	return string(s.Conditions[1].Reason)
}

func namespace(mode string) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}
	if mode != "" {
		ns.Annotations = map[string]string{config.AnnotationMTLS: mode}
	}
	return ns
}

func meshedPod(name, app string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid-of-x", Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{InitContainers: sidecartest.Containers()},
	}
}

func policyFor(name string, generation int64) *v1alpha1.AuthorizationPolicy {
	return &v1alpha1.AuthorizationPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "p", Generation: generation},
		Spec: v1alpha1.AuthorizationPolicySpec{
			PodSelector: v1alpha1.PodSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "cart"}},
			Rules:       []v1alpha1.Rule{{From: []v1alpha1.Peer{{Namespace: "shop"}}}},
		},
	}
}

// What a pod takes follows the policies that select it, and its labels; other pods are left alone. What is taken from
// nobody any more is no longer published.
func TestPoliciesOfPods(t *testing.T) {
	f := newFollower(t, config.Default(), namespace(""), meshedPod("cart-0", "cart"), meshedPod("web-0", "web"), policyFor("first", 1))
	want := func(what string, holds bool) {
		t.Helper()
		if !holds {
			t.Errorf("%s: classes %v", what, f.inbounds.classes)
		}
	}
	want("the first policy holds", f.judged("cart-0") && f.class("web-0") == "permissive")
	before := f.class("cart-0")
	want("there is a listener", f.listener(before))

	other := policyFor("other", 1)
	other.Spec.DryRun = true
	f.urgent(other)
	want("two hold", f.judged("cart-0") && f.class("cart-0") != before && f.class("web-0") == "permissive")
	f.gone(other)
	want("one holds", f.class("cart-0") == before)
	f.urgent(meshedPod("web-0", "cart"))
	want("a pod gets the label", f.class("web-0") == before)
	f.gone(policyFor("first", 1))
	want("none holds", f.class("cart-0") == "permissive" && f.class("web-0") == "permissive")
	want("the listener is gone", !f.listener(before) && f.listener("permissive"))
	if len(f.whole) != 0 {
		t.Errorf("still said: %v", f.whole)
	}
}

// A pod comes over another watch than its namespace, which may be a strict one: until that is known it takes nothing.
func TestPodsWaitForTheirNamespace(t *testing.T) {
	f := newFollower(t, config.Default(), meshedPod("early", "cart"))
	if f.class("early") != "" {
		t.Errorf("it has class %q before its namespace is known", f.class("early"))
	}
	f.urgent(namespace("strict"))
	if f.class("early") != "strict" {
		t.Errorf("class %q, want strict", f.class("early"))
	}
}

// Without identities no policy holds, and its status says so.
func TestPoliciesWithoutIdentities(t *testing.T) {
	f := newFollower(t, configtest.WithoutIdentity(), policyFor("first", 1))
	if len(f.whole) != 1 {
		t.Fatalf("said: %v", f.whole)
	}
	for _, s := range f.whole {
		if c := s.Conditions[0]; c.True || c.Reason != v1alpha1.ReasonNoIdentities || !strings.Contains(c.Message, "mesh.identity.enabled") {
			t.Errorf("%+v", c)
		}
	}
}

// A policy's status follows the pods that it selects, the other policies, and its own generation. One that is made anew
// at once has its status said again.
func TestEffectOfPoliciesIsSaid(t *testing.T) {
	f := newFollower(t, config.Default(), namespace(""), policyFor("first", 1))
	want := func(name, reason string) {
		t.Helper()
		if got := f.effect(name); got != reason {
			t.Errorf("%s: %q, want %q", name, got, reason)
		}
	}
	want("first", v1alpha1.ReasonNoPods)
	f.urgent(meshedPod("cart-0", "cart"))
	want("first", v1alpha1.ReasonEffective)
	closed := policyFor("closed", 1)
	closed.Spec.Rules = nil
	f.urgent(closed)
	want("closed", v1alpha1.ReasonEffective)
	f.gone(policyFor("first", 1))
	want("closed", v1alpha1.ReasonNobodyAllowed)
	f.gone(meshedPod("cart-0", "cart"))
	want("closed", v1alpha1.ReasonNoPods)
	id, _ := IDOf(closed)
	f.Delete(id)
	f.urgent(closed)
	want("closed", v1alpha1.ReasonNoPods)
	changed := closed.DeepCopy()
	changed.Generation = 2
	f.urgent(changed)
	if got := f.whole[id].Generation; got != 2 {
		t.Errorf("the status is of generation %d, want 2", got)
	}
	changed = changed.DeepCopy()
	changed.Status.Conditions = []metav1.Condition{{Type: "Accepted"}} // by us
	f.Set(changed)
	if now, held := f.Urgent(); held || len(now.PolicyStatuses) > 0 || !now.Change.Empty() {
		t.Errorf("a change of its status comes to %+v", now)
	}
}

// What a pod's ports are taken for follows the Services that select it, while policies keep somebody away from it.
func TestDeclaredPortsOfPods(t *testing.T) {
	pod := meshedPod("cart-0", "cart")
	pod.Spec.Containers = []corev1.Container{{Name: "cart", Ports: []corev1.ContainerPort{{Name: "main", ContainerPort: 8080}}}}
	service := func(portName, app string) *corev1.Service {
		return &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"},
			Spec: corev1.ServiceSpec{
				Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Name: portName, Port: 80, TargetPort: intstr.FromString("main")}},
			},
		}
	}
	f := newFollower(t, config.Default(), namespace(""), pod, service("http", "cart"))
	want := func(what string, http, judged bool) {
		t.Helper()
		if class := f.class("cart-0"); strings.Contains(class, "http=[8080]") != http || f.judged("cart-0") != judged {
			t.Errorf("%s: class %s", what, class)
		}
	}
	want("without policies nobody looks", false, false)
	f.urgent(policyFor("first", 1))
	want("a policy", true, true)
	f.urgent(service("tcp", "cart"))
	want("the port is declared TCP", false, true)
	f.urgent(service("grpc", "cart"))
	want("and HTTP again", true, true)
	f.urgent(service("grpc", "web"))
	want("the Service is another pod's", false, true)
	f.urgent(service("grpc", "cart"))
	want("its own again", true, true)
	f.gone(service("grpc", "cart"))
	want("no Service", false, true)
	if len(f.declared) != 0 {
		t.Errorf("still known: %v", f.declared)
	}
	f.urgent(service("http", "cart"))
	want("a Service", true, true)
	dry := policyFor("first", 2)
	dry.Spec.DryRun = true
	f.urgent(dry)
	want("nobody is refused in dry run", false, true)
}

// When other policies hold for the pods of a Service, callers get its clusters anew when they are told to reconnect, and
// not before.
func TestCallersConnectAnew(t *testing.T) {
	pod := meshedPod("cart-0", "cart")
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.1"}}
	key := mesh.Key{Namespace: "shop", Name: "cart"}
	objects := []metav1.Object{namespace(""), pod, serviceOn(key, "http"), sliceOf(key, "http", "cart-0", "10.244.0.1")}
	f := newFollower(t, config.Default(), objects...)
	cluster := func(p *published) string {
		return p.resources[envoy.ID{Type: envoy.ClusterType, Name: "outbound/shop/cart/80"}][""]
	}
	before := cluster(f.published)
	first := policyFor("first", 1)
	f.urgent(first)
	if !f.reconnect.Has(key) {
		t.Fatal("callers of the Service are not to connect anew")
	}
	f.hold(key) // for another reason, meanwhile
	f.take(f.Build())
	if cluster(f.published) != before {
		t.Error("the cluster is another before its time")
	}
	f.Reconnect(key)
	f.take(f.Build())
	after := cluster(f.published)
	if after == before {
		t.Error("the cluster is the same")
	}
	if fresh := newFollower(t, config.Default(), append(objects, first)...); cluster(fresh.published) != after {
		t.Error("another replica gives another cluster")
	}
}

func serviceOn(key mesh.Key, portName string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, Ports: []corev1.ServicePort{{Name: portName, Port: 80}}},
	}
}

// sliceOf is an EndpointSlice of a Service with one endpoint, which names a pod if that is not empty.
func sliceOf(service mesh.Key, portName, pod, address string) *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: service.Namespace, Name: service.Name + "-x", Labels: map[string]string{discoveryv1.LabelServiceName: service.Name},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &portName, Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}}},
	}
	if pod != "" {
		slice.Endpoints[0].TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: service.Namespace, Name: pod}
	}
	return slice
}

// A Service that is deleted and created again before its callers have connected anew still has them do it.
func TestCallersOfANewServiceConnectAnew(t *testing.T) {
	pod := meshedPod("cart-0", "cart")
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.1"}}
	key := mesh.Key{Namespace: "shop", Name: "cart"}
	f := newFollower(t, config.Default(), namespace(""), pod, serviceOn(key, "http"), sliceOf(key, "http", "cart-0", "10.244.0.1"))
	cluster := func() string {
		return f.resources[envoy.ID{Type: envoy.ClusterType, Name: "outbound/shop/cart/80"}][""]
	}
	f.urgent(policyFor("first", 1))
	f.gone(serviceOn(key, "http"))
	f.take(f.Build())
	f.urgent(serviceOn(key, "http"))
	f.take(f.Build())
	before := cluster()
	f.Reconnect(key)
	f.take(f.Build())
	if cluster() == before {
		t.Error("the cluster is the same")
	}
}
