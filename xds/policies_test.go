package xds

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// wholeStatuses keeps what was said of policies last.
type wholeStatuses struct {
	noStatuses
	said map[kube.ID]status.Status
}

func (w wholeStatuses) SetWhole(list []status.Status) {
	for _, s := range list {
		w.said[s.Object] = s
	}
}

func (w wholeStatuses) Forget(id kube.ID) { delete(w.said, id) }

func meshedPod(name, app string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: "uid-of-x", Labels: map[string]string{"app": app},
		},
		Spec: corev1.PodSpec{InitContainers: sidecartest.Containers()},
	}
}

func policyFor(name, app string) *v1alpha1.AuthorizationPolicy { //nolint:unparam // it reads better
	return &v1alpha1.AuthorizationPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "p", Generation: 1},
		Spec: v1alpha1.AuthorizationPolicySpec{
			PodSelector: v1alpha1.PodSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": v1alpha1.LabelValue(app)}},
			Rules:       []v1alpha1.Rule{{From: []v1alpha1.Peer{{Namespace: "shop"}}}},
		},
	}
}

// What a pod takes follows the policies that select it, and its labels; other pods are left alone. What is taken from
// nobody any more is no longer published.
func TestPoliciesOfPods(t *testing.T) {
	f := newFakeCluster(t)
	f.pods.Add(meshedPod("cart-0", "cart"))
	f.pods.Add(meshedPod("web-0", "web"))
	f.authorization.Add(policyFor("first", "cart"))
	statuses := wholeStatuses{said: map[kube.ID]status.Status{}}
	cfg := config.Default()
	c := NewController(Options{Source: f.source, Store: server.NewStore(), Config: cfg, Log: logr.Discard(), Statuses: statuses})
	if !f.source.Sync(t.Context()) {
		t.Fatal("no sync")
	}
	if err := c.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	listeners := func() []string {
		return slices.Sorted(maps.Keys(published(t, c)["Listener"]))
	}
	class := func(name string) string {
		return c.inbounds.classes[node.Pod{Namespace: "shop", Name: name, UID: "uid-of-x"}]
	}
	follow := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.After(10 * time.Second); !done(); {
			select {
			case <-f.source.Changed():
				c.take(t.Context(), f.source.Take())
			case <-deadline:
				t.Fatalf("not within 10 s: %s; classes %v, listeners %v", what, c.inbounds.classes, listeners())
			}
		}
	}
	judged := func(name string) bool { return strings.Contains(class(name), "policies=") }
	follow("the first policy holds", func() bool { return judged("cart-0") && class("web-0") == "permissive" })

	before := class("cart-0")
	if !slices.Contains(listeners(), "inbound/"+before+" (ipv4)") {
		t.Errorf("no listener for %s in %v", before, listeners())
	}
	other := policyFor("other", "cart")
	other.Spec.DryRun = true
	f.authorization.Add(other)
	follow("two hold", func() bool { return judged("cart-0") && class("cart-0") != before && class("web-0") == "permissive" })
	f.authorization.Delete(other.DeepCopyObject())
	follow("one holds", func() bool { return class("cart-0") == before })

	f.pods.Modify(meshedPod("web-0", "cart"))
	follow("a pod gets the label", func() bool { return class("web-0") == before })
	id := kube.ID{Kind: kube.AuthorizationPolicy, Key: mesh.Key{Namespace: "shop", Name: "first"}}
	if s := statuses.said[id]; len(s.Conditions) != 2 || !s.Conditions[0].True || !s.Conditions[1].True || s.Generation != 1 {
		t.Errorf("status %+v", s)
	}
	f.authorization.Delete(policyFor("first", "cart"))
	follow("none holds", func() bool { return class("cart-0") == "permissive" && class("web-0") == "permissive" })
	if len(statuses.said) != 0 {
		t.Errorf("still said: %v", statuses.said)
	}
	for _, name := range listeners() {
		if strings.Contains(name, "policies=") {
			t.Errorf("still published: %s", name)
		}
	}
}

// A pod comes over another watch than its namespace, which may be a strict one: until that is known it takes nothing.
func TestPodsWaitForTheirNamespace(t *testing.T) {
	f := newFakeCluster(t)
	early := meshedPod("early", "cart")
	early.Namespace = "bank"
	f.pods.Add(early)
	c := NewController(Options{Source: f.source, Store: server.NewStore(), Config: config.Default(), Log: logr.Discard(), Statuses: noStatuses{}})
	if !f.source.Sync(t.Context()) {
		t.Fatal("no sync")
	}
	if err := c.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	class := func() string {
		return c.inbounds.classes[node.Pod{Namespace: "bank", Name: "early", UID: string(early.UID)}]
	}
	// The source may have listed the pods before there was one, and hears of it then.
	follow := func(what string, holds func() bool) {
		t.Helper()
		for deadline := time.After(10 * time.Second); !holds(); {
			select {
			case <-f.source.Changed():
				c.take(t.Context(), f.source.Take())
				if got := class(); got != "" && got != "strict" {
					t.Fatalf("class %q", got)
				}
			case <-deadline:
				t.Fatalf("not within 10 s: %s; class %q", what, class())
			}
		}
	}
	follow("the pod is known", func() bool { return c.pods.Get(mesh.Key{Namespace: "bank", Name: "early"}) != nil })
	if class() != "" {
		t.Errorf("it has class %q before its namespace is known", class())
	}
	f.namespaces.Add(namespace("bank", "strict"))
	follow("its namespace is known", func() bool { return class() == "strict" })
}

// An API server that has just started may not serve AuthorizationPolicies yet. Where there is a CRD of them no sidecar
// is answered before they are read.
func TestPoliciesAreWaitedFor(t *testing.T) {
	f := newLateCluster(t, 2, func(f *fakeCluster) { // when the source is made, and when it runs
		f.crds.Add(&metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
			ObjectMeta: metav1.ObjectMeta{Name: "authorizationpolicies.mizzen.dev"},
		})
		f.pods.Add(meshedPod("cart-0", "cart"))
		f.authorization.Add(policyFor("first", "cart"))
	})
	go func() { _ = f.source.Run(t.Context()) }()
	c := NewController(Options{Source: f.source, Store: server.NewStore(), Config: config.Default(), Log: logr.Discard(), Statuses: noStatuses{}})
	if !f.source.Sync(t.Context()) {
		t.Fatal("no sync")
	}
	if err := c.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	if class := c.inbounds.classes[node.Pod{Namespace: "shop", Name: "cart-0", UID: "uid-of-x"}]; !strings.Contains(class, "policies=") {
		t.Errorf("class %q", class)
	}
}

// Without identities no policy holds, and its status says so.
func TestPoliciesWithoutIdentities(t *testing.T) {
	f := newFakeCluster(t)
	f.authorization.Add(policyFor("first", "cart"))
	statuses := wholeStatuses{said: map[kube.ID]status.Status{}}
	c := NewController(Options{Source: f.source, Store: server.NewStore(), Config: configtest.WithoutIdentity(), Log: logr.Discard(), Statuses: statuses})
	if !f.source.Sync(t.Context()) {
		t.Fatal("no sync")
	}
	if err := c.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.After(10 * time.Second); len(statuses.said) == 0; {
		select {
		case <-f.source.Changed():
			c.take(t.Context(), f.source.Take())
		case <-deadline:
			t.Fatal("nothing is said")
		}
	}
	for _, s := range statuses.said {
		if c := s.Conditions[0]; c.True || c.Reason != v1alpha1.ReasonNoIdentities || !strings.Contains(c.Message, "mesh.identity.enabled") {
			t.Errorf("%+v", c)
		}
	}
}

// When other policies hold for the pods of a Service, callers get its clusters anew, once, but not before the sidecars
// have had the time to take the policies.
func TestCallersConnectAnew(t *testing.T) {
	f := newFakeCluster(t)
	pod := meshedPod("cart-0", "cart")
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.244.0.1"}}
	f.pods.Add(pod)
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "cart", Labels: map[string]string{discoveryv1.LabelServiceName: "cart"}}
	f.services.Add(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
	}})
	f.slices.Add(&discoveryv1.EndpointSlice{
		ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Ports:     []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.244.0.1"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "cart-0"}}},
	})
	c := NewController(Options{Source: f.source, Store: server.NewStore(), Config: config.Default(), Log: logr.Discard(), Statuses: noStatuses{}})
	if !f.source.Sync(t.Context()) {
		t.Fatal("no sync")
	}
	if err := c.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	key := mesh.Key{Namespace: "shop", Name: "cart"}
	cluster := func() string { return published(t, c)["Cluster"]["outbound/shop/cart/80"] }
	follow := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.After(10 * time.Second); !done(); {
			select {
			case <-f.source.Changed():
				if c.take(t.Context(), f.source.Take()) {
					c.publishHeld(t.Context())
				}
			case <-deadline:
				t.Fatalf("not within 10 s: %s", what)
			}
		}
	}
	follow("the pod stands behind the Service", func() bool {
		return c.depend.ofPod(mesh.Key{Namespace: "shop", Name: "cart-0"}).Has(key) && cluster() != ""
	})
	before := cluster()
	f.authorization.Add(policyFor("first", "cart"))
	follow("a renewal is due", func() bool { return len(c.renewals.due) == 1 })
	c.hold(key) // for another reason, meanwhile
	c.publishHeld(t.Context())
	c.renew(t.Context())
	if cluster() != before {
		t.Error("the cluster is another before its time")
	}
	first := c.renewals.due[key]
	f.authorization.Add(policyFor("second", "cart"))
	follow("the renewal waits for the second policy, too", func() bool { return c.renewals.due[key].After(first) })
	c.renewals.due[key] = time.Now()
	c.renew(t.Context())
	after := cluster()
	if after == before || len(c.renewals.due) != 0 {
		t.Errorf("the cluster is the same, %v due", c.renewals.due)
	}
	if fresh := NewController(Options{Source: f.source, Store: server.NewStore(), Config: config.Default(), Log: logr.Discard(), Statuses: noStatuses{}}); fresh.first(t.Context()) != nil ||
		published(t, fresh)["Cluster"]["outbound/shop/cart/80"] != after {
		t.Error("another replica gives another cluster")
	}
}

// A policy's status follows the pods that it selects, and the other policies.
func TestEffectOfPoliciesIsSaid(t *testing.T) {
	f := newFakeCluster(t)
	f.authorization.Add(policyFor("first", "cart"))
	statuses := wholeStatuses{said: map[kube.ID]status.Status{}}
	c := NewController(Options{Source: f.source, Store: server.NewStore(), Config: config.Default(), Log: logr.Discard(), Statuses: statuses})
	if !f.source.Sync(t.Context()) {
		t.Fatal("no sync")
	}
	if err := c.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	follow := func(name, reason string) {
		t.Helper()
		id := kube.ID{Kind: kube.AuthorizationPolicy, Key: mesh.Key{Namespace: "shop", Name: name}}
		said := func() string {
			if s := statuses.said[id]; len(s.Conditions) == 2 {
				return string(s.Conditions[1].Reason)
			}
			return ""
		}
		for deadline := time.After(10 * time.Second); said() != reason; {
			select {
			case <-f.source.Changed():
				c.take(t.Context(), f.source.Take())
			case <-deadline:
				t.Fatalf("%s: %q, want %q", name, said(), reason)
			}
		}
	}
	follow("first", v1alpha1.ReasonNoPods)
	f.pods.Add(meshedPod("cart-0", "cart"))
	follow("first", v1alpha1.ReasonEffective)
	closed := policyFor("closed", "cart")
	closed.Spec.Rules = nil
	f.authorization.Add(closed)
	follow("closed", v1alpha1.ReasonEffective)
	f.authorization.Delete(policyFor("first", "cart"))
	follow("closed", v1alpha1.ReasonNobodyAllowed)
	f.pods.Delete(meshedPod("cart-0", "cart"))
	follow("closed", v1alpha1.ReasonNoPods)
}
