package xds

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	toolstesting "k8s.io/client-go/tools/cache/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// TestControllerFollowsEveryChange: after any changes, in whatever portions they are taken, the store and the
// statuses are those of a controller that reads the cluster as it is now. Every other cluster has identities.
func TestControllerFollowsEveryChange(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newRandomCluster(t, seed)
			w.identities = seed%2 == 1
			if !w.source.Sync(t.Context()) {
				t.Fatal("no sync")
			}
			for range 6 {
				w.change()
			}
			w.await(t)
			followed := w.controller()
			if err := followed.first(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.callPods(t, followed)
			for range 40 {
				for range 1 + w.IntN(4) {
					w.change()
					if w.IntN(2) == 0 { // it may see a part of what has changed
						followed.take(t.Context(), w.source.Take())
					}
					if w.IntN(4) == 0 {
						followed.publishHeld(t.Context())
					}
				}
				w.await(t)
				fresh := w.controller()
				if err := fresh.first(t.Context()); err != nil {
					t.Fatal(err)
				}
				stop := w.callPods(t, fresh)
				w.follow(t, followed, fresh)
				stop()
			}
		})
	}
}

// follow has a controller take what comes until it says the same as a fresh one.
func (w *randomCluster) follow(t *testing.T, followed, fresh *Controller) {
	t.Helper()
	for deadline := time.After(10 * time.Second); ; {
		followed.take(t.Context(), w.source.Take())
		followed.publishHeld(t.Context())
		diff := differ(t, fresh, followed) + cmp.Diff(said(fresh), said(followed))
		if diff == "" {
			renew(t, followed)
			if diff = cmp.Diff(published(t, fresh), published(t, followed)); diff != "" {
				t.Fatalf("all built anew: - as the cluster is, + what was followed:\n%s", diff)
			}
			return
		}
		select {
		case <-w.source.Changed(): // the cache is filled before the source is told
		case <-deadline:
			t.Fatalf("- as the cluster is, + what was followed:\n%s", diff)
		}
	}
}

// published are the versions of everything in a controller's store.
func published(t *testing.T, c *Controller) map[string]map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	server.New(server.Options{Store: c.opt.Store, Log: logr.Discard()}).Debug().ServeHTTP(w, httptest.NewRequest("GET", "/debug/resources", nil))
	var versions map[string]map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &versions); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(versions, func(_ string, names map[string]string) bool { return len(names) == 0 })
	return versions
}

// toldStatuses keeps what was said last, by Service.
type toldStatuses map[mesh.Key][]status.Status

func (s toldStatuses) Set(statuses map[mesh.Key][]status.Status) {
	for key, list := range statuses {
		if s[key] = list; len(list) == 0 {
			delete(s, key)
		}
	}
}

func (toldStatuses) SetWhole([]status.Status) {}
func (toldStatuses) Forget(kube.ID)           {}
func (toldStatuses) Written(kube.ID)          {}

func said(c *Controller) toldStatuses { return c.opt.Statuses.(toldStatuses) }

// randomCluster is a cluster of few names that changes at random.
type randomCluster struct {
	*fakeCluster
	*rand.Rand
	objects map[string]client.Object // by kind and name
	changes int
	// identities are set for a mesh with them.
	identities bool
}

func newRandomCluster(t *testing.T, seed uint64) *randomCluster {
	return &randomCluster{fakeCluster: newFakeCluster(t), Rand: rand.New(rand.NewPCG(seed, 11)), objects: map[string]client.Object{}}
}

func (w *randomCluster) controller() *Controller {
	cfg := configtest.WithoutIdentity()
	if w.identities {
		cfg = config.Default()
	}
	return NewController(Options{Source: w.source, Store: server.NewStore(), Config: cfg, Log: logr.Discard(), Statuses: toldStatuses{}})
}

func pick[T any](w *randomCluster, from ...T) T { return from[w.IntN(len(from))] }

func (w *randomCluster) namespace() string { return pick(w, "a", "b") }
func (w *randomCluster) service() string   { return fmt.Sprint("s", w.IntN(4)) }

// change makes, changes or deletes one object.
func (w *randomCluster) change() {
	w.changes++
	meta := metav1.ObjectMeta{
		Namespace: w.namespace(), Labels: map[string]string{"rev": fmt.Sprint(w.changes)}, UID: types.UID(fmt.Sprint("uid-", w.changes)),
		CreationTimestamp: metav1.NewTime(time.Unix(int64(w.IntN(3)), 0)), Generation: 1,
	}
	var source *toolstesting.FakeControllerSource
	var object client.Object
	kinds := 11
	if w.identities {
		kinds = 16
	}
	switch w.IntN(kinds) {
	case 0, 1:
		meta.Name = w.service()
		source, object = w.services, w.newService(meta)
	case 2:
		service := w.service()
		meta.Name = service + "-x"
		meta.Labels[discoveryv1.LabelServiceName] = service
		source, object = w.slices, w.newSlice(meta)
	case 3, 4, 5:
		meta.Name = fmt.Sprint("r", w.IntN(4))
		source, object = w.http, w.newHTTPRoute(meta)
	case 6:
		meta.Name = fmt.Sprint("g", w.IntN(2))
		source, object = w.grpc, w.newGRPCRoute(meta)
	case 7:
		meta.Name = "grant"
		g := &gatewayv1beta1.ReferenceGrant{ObjectMeta: meta}
		g.Spec.From = []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: pick[gatewayv1.Kind](w, "HTTPRoute", "GRPCRoute", "TCPRoute"), Namespace: gatewayv1.Namespace(w.namespace())}}
		g.Spec.To = []gatewayv1.ReferenceGrantTo{{Kind: "Service"}}
		source, object = w.grants, g
	case 8:
		meta.Name = fmt.Sprint("p", w.IntN(2))
		source, object = w.policies, w.newPolicy(meta)
	case 9:
		meta.Name = fmt.Sprint("t", w.IntN(3))
		source, object = w.tcp, w.newTCPRoute(meta)
	case 10:
		meta.Name = fmt.Sprint("n", w.IntN(2))
		source, object = w.tls, w.newTLSRoute(meta)
	default:
		meta.Name = fmt.Sprint("pod-", w.IntN(4))
		source, object = w.pods, w.newPod(meta)
	}
	id := fmt.Sprintf("%T %s/%s", object, meta.Namespace, meta.Name)
	own := func(o client.Object) client.Object { return o.DeepCopyObject().(client.Object) } // the source's
	switch before := w.objects[id]; {
	case before == nil:
		source.Add(own(object))
		w.objects[id] = object
	case w.IntN(3) == 0:
		source.Delete(own(before))
		delete(w.objects, id)
		if w.IntN(2) == 0 { // and made anew at once
			source.Add(own(object))
			w.objects[id] = object
		}
	default:
		object.SetUID(before.GetUID())
		object.SetCreationTimestamp(before.GetCreationTimestamp())
		object.SetGeneration(before.GetGeneration() + 1)
		source.Modify(own(object))
		w.objects[id] = object
	}
}

func (w *randomCluster) newService(meta metav1.ObjectMeta) client.Object {
	ip := fmt.Sprintf("10.0.%d.%d", int(meta.Namespace[0]), int(meta.Name[1]))
	if w.IntN(6) == 0 {
		ip = fmt.Sprintf("10.0.%d.%d", 200, w.changes%250)
	}
	if w.IntN(6) == 0 {
		ip = corev1.ClusterIPNone
	}
	svc := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}}}
	for i := range 1 + w.IntN(2) {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: pick(w, "http", "http", "tcp") + fmt.Sprint(i), Port: int32(80 + i)})
	}
	if w.IntN(3) == 0 {
		svc.Annotations = map[string]string{"mizzen.dev/timeout": pick(w, "1s", "2s", "x")}
	}
	return svc
}

func (w *randomCluster) newSlice(meta metav1.ObjectMeta) client.Object {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4}
	for i := range 2 {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(fmt.Sprint("http", i)), Port: new(int32(8080 + i)), Protocol: new(corev1.ProtocolTCP)})
	}
	for range w.IntN(3) {
		ep := discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.1.0.%d", 1+w.IntN(200))}}
		if w.identities {
			ep = w.podEndpoint(meta.Namespace)
		}
		slice.Endpoints = append(slice.Endpoints, ep)
	}
	return slice
}

func (w *randomCluster) parents() []gatewayv1.ParentReference {
	var out []gatewayv1.ParentReference
	for range w.IntN(3) {
		ref := gatewayv1.ParentReference{
			Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")),
			Name: gatewayv1.ObjectName(w.service()), Namespace: new(gatewayv1.Namespace(w.namespace())),
		}
		if w.IntN(3) == 0 {
			ref.Port = new(gatewayv1.PortNumber(80 + w.IntN(2)))
		}
		out = append(out, ref)
	}
	return out
}

func (w *randomCluster) backend() gatewayv1.BackendRef {
	ref := gatewayv1.BackendRef{Weight: new(int32(w.IntN(3)))}
	ref.Name, ref.Port = gatewayv1.ObjectName(w.service()), new(gatewayv1.PortNumber(80+w.IntN(2)))
	if w.IntN(2) == 0 {
		ref.Namespace = new(gatewayv1.Namespace(w.namespace()))
	}
	return ref
}

func (w *randomCluster) newHTTPRoute(meta metav1.ObjectMeta) client.Object {
	r := &gatewayv1.HTTPRoute{ObjectMeta: meta}
	r.Spec.ParentRefs = w.parents()
	for i := range 1 + w.IntN(2) {
		rule := gatewayv1.HTTPRouteRule{Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Value: new(fmt.Sprint("/", i))}}}}
		for range w.IntN(3) {
			rule.BackendRefs = append(rule.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: w.backend()})
		}
		if w.IntN(3) == 0 {
			rule.Filters = []gatewayv1.HTTPRouteFilter{{
				Type: gatewayv1.HTTPRouteFilterRequestMirror, RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{BackendRef: w.backend().BackendObjectReference},
			}}
		}
		r.Spec.Rules = append(r.Spec.Rules, rule)
	}
	return r
}

func (w *randomCluster) newTCPRoute(meta metav1.ObjectMeta) client.Object {
	r := &gatewayv1.TCPRoute{ObjectMeta: meta}
	r.Spec.ParentRefs = w.parents()
	r.Spec.Rules = []gatewayv1.TCPRouteRule{{BackendRefs: []gatewayv1.BackendRef{w.backend(), w.backend()}}}
	return r
}

func (w *randomCluster) newTLSRoute(meta metav1.ObjectMeta) client.Object {
	r := &gatewayv1.TLSRoute{ObjectMeta: meta}
	r.Spec.ParentRefs = w.parents()
	r.Spec.Hostnames = []gatewayv1.Hostname{pick[gatewayv1.Hostname](w, "a.example.com", "*.example.com"), "b.example.com"}
	r.Spec.Rules = []gatewayv1.TLSRouteRule{{BackendRefs: []gatewayv1.BackendRef{w.backend()}}}
	return r
}

func (w *randomCluster) newGRPCRoute(meta metav1.ObjectMeta) client.Object {
	r := &gatewayv1.GRPCRoute{ObjectMeta: meta}
	r.Spec.ParentRefs = w.parents()
	r.Spec.Rules = []gatewayv1.GRPCRouteRule{{BackendRefs: []gatewayv1.GRPCBackendRef{{BackendRef: w.backend()}}}}
	return r
}

func (w *randomCluster) newPolicy(meta metav1.ObjectMeta) client.Object {
	p := &gatewayxv1alpha1.XBackendTrafficPolicy{ObjectMeta: meta}
	for range 1 + w.IntN(2) {
		ref := gatewayv1.LocalPolicyTargetReference{Kind: "Service", Name: gatewayv1.ObjectName(w.service())}
		if !slices.Contains(p.Spec.TargetRefs, ref) {
			p.Spec.TargetRefs = append(p.Spec.TargetRefs, ref)
		}
	}
	p.Spec.SessionPersistence = &gatewayv1.SessionPersistence{SessionName: new(pick(w, "x", "y"))}
	return p
}

// await waits until the cache holds the objects as they are.
func (w *randomCluster) await(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	want := map[string]string{}
	for id, o := range w.objects {
		want[id] = o.GetLabels()["rev"]
	}
	err := wait.PollUntilContextCancel(ctx, time.Millisecond, true, func(ctx context.Context) (bool, error) {
		got := map[string]string{}
		add := func(o client.Object) {
			got[fmt.Sprintf("%T %s/%s", o, o.GetNamespace(), o.GetName())] = o.GetLabels()["rev"]
		}
		services, err := w.source.Services(ctx)
		if err != nil {
			return false, err
		}
		for _, o := range services {
			add(o)
		}
		for _, ns := range []string{"a", "b"} {
			for i := range 4 {
				list, err := w.source.EndpointSlices(ctx, mesh.Key{Namespace: ns, Name: fmt.Sprint("s", i)})
				if err != nil {
					return false, err
				}
				for _, o := range list {
					add(o)
				}
			}
		}
		pods, err := w.source.Pods(ctx)
		if err != nil {
			return false, err
		}
		for _, o := range pods {
			add(o)
		}
		for _, kind := range []kube.Kind{kube.HTTPRoute, kube.GRPCRoute, kube.TLSRoute, kube.TCPRoute, kube.ReferenceGrant, kube.TrafficPolicy} {
			for _, o := range w.source.Objects(kind, "") {
				add(o)
			}
		}
		return maps.Equal(got, want), nil
	})
	if err != nil {
		t.Fatalf("the cache does not follow: %v", err)
	}
}
