package xdstest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
	"github.com/mizzen-mesh/mizzen/internal/xdstest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

func service(name, ip string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.ServiceSpec{
			ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
}

func endpoints(service string, ips ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: service + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
	}
	for _, ip := range ips {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
	}
	return s
}

func pod(name, ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid-of-x"},
		Spec:       corev1.PodSpec{ServiceAccountName: name, InitContainers: sidecartest.Containers()},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
}

func start(t *testing.T, o xdstest.Options) *xdstest.ControlPlane {
	t.Helper()
	c, err := xdstest.Start(o)
	must(t, err)
	t.Cleanup(func() { must(t, c.Stop()) })
	return c
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve returns an ADS server until the end of the test.
func serve(t *testing.T, c *xdstest.ControlPlane) *xdstest.Server {
	t.Helper()
	s, err := c.Serve(nil)
	must(t, err)
	t.Cleanup(func() { must(t, s.Stop()) })
	return s
}

// published are the versions of resources by type and name.
func published(t *testing.T, s *xdstest.Server) map[string]map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	s.Debug().ServeHTTP(w, httptest.NewRequest("GET", "/debug/resources", nil))
	var versions map[string]map[string]string
	must(t, json.Unmarshal(w.Body.Bytes(), &versions))
	return versions
}

// After Published there is everything that was applied before, of every kind, and nothing that was deleted.
func TestPublished(t *testing.T) {
	for name, cfg := range map[string]*config.Mesh{"with identities": config.Default(), "without": configtest.WithoutIdentity()} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t, xdstest.Options{Config: cfg})
			s := serve(t, c)
			of := func(kind, name string) []string {
				t.Helper()
				must(t, c.Published())
				return slices.DeleteFunc(slices.Sorted(maps.Keys(published(t, s)[kind])), func(n string) bool { return !strings.Contains(n, "/"+name+"/") })
			}
			for round := range 20 {
				name, ip := fmt.Sprint("web-", round), fmt.Sprintf("10.96.0.%d", round+1)
				before := published(t, s)
				must(t, c.Apply(service(name, ip)))
				if len(of("Cluster", name)) == 0 {
					t.Fatalf("round %d: no cluster", round)
				}
				must(t, c.Apply(endpoints(name, "10.1.0.1")))
				one := endpointsOf(t, c, s, name)
				must(t, c.Apply(pod("cart", fmt.Sprintf("10.1.0.%d", round+2)), endpoints(name, fmt.Sprintf("10.1.0.%d", round+2))))
				if now := endpointsOf(t, c, s, name); maps.Equal(one, now) {
					t.Fatalf("round %d: the same endpoints", round)
				}
				must(t, c.Delete(service(name, ip), endpoints(name)))
				must(t, c.Published())
				if now := published(t, s); round > 0 && !maps.EqualFunc(before, now, maps.Equal[map[string]string, map[string]string]) {
					t.Fatalf("round %d: published is %v, before %v", round, now, before)
				}
			}
		})
	}
}

func endpointsOf(t *testing.T, c *xdstest.ControlPlane, s *xdstest.Server, service string) map[string]string {
	t.Helper()
	must(t, c.Published())
	out := published(t, s)["ClusterLoadAssignment"]
	maps.DeleteFunc(out, func(name, _ string) bool { return !strings.Contains(name, "/"+service+"/") })
	if len(out) == 0 {
		t.Fatalf("no endpoints of %s", service)
	}
	return out
}

// The control plane hears of objects in the order in which they are given, whatever their kinds.
func TestOrder(t *testing.T) {
	c := start(t, xdstest.Options{})
	informers, err := c.Cluster.Cache()
	must(t, err)
	var mu sync.Mutex
	var heard []string
	for _, of := range []client.Object{&corev1.Service{}, &discoveryv1.EndpointSlice{}, &corev1.Pod{}} {
		informer, err := informers.GetInformer(t.Context(), of, cache.BlockUntilSynced(false))
		must(t, err)
		note := func(x any) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, fmt.Sprintf("%T", x))
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{AddFunc: note, DeleteFunc: note})
		must(t, err)
	}
	go func() { _ = informers.Start(t.Context()) }()
	var want []string
	for i := range 30 {
		objects := []client.Object{service(fmt.Sprint(i), "10.96.0.1"), endpoints(fmt.Sprint(i), "10.1.0.1"), pod(fmt.Sprint(i), "10.1.0.1")}
		rand.Shuffle(len(objects), func(i, j int) { objects[i], objects[j] = objects[j], objects[i] })
		for _, o := range append(slices.Clone(objects), objects...) {
			want = append(want, fmt.Sprintf("%T", o))
		}
		must(t, c.Apply(objects...))
		must(t, c.Cluster.Heard(t.Context()))
		must(t, c.Delete(objects...))
		must(t, c.Published())
	}
	if !slices.Equal(heard, want) {
		t.Errorf("heard %v, want %v", heard, want)
	}
}

// What routes are told is there by then, too.
func TestStatuses(t *testing.T) {
	c := start(t, xdstest.Options{})
	route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a"}}
	route.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: "web"}}
	id := mesh.ID{Kind: mesh.KindHTTPRoute, Key: mesh.Key{Namespace: "shop", Name: "a"}}
	for i, objects := range [][]client.Object{{route}, {service("web", "10.96.0.1")}} {
		must(t, c.Apply(objects...))
		must(t, c.Published())
		list := c.Statuses(id)
		if len(list) != 1 || len(list[0].Conditions) == 0 || (list[0].Conditions[0].True) != (i == 1) {
			t.Errorf("step %d: %+v", i, list)
		}
	}
	must(t, c.Delete(route))
	must(t, c.Published())
	if list := c.Statuses(id); len(list) > 0 {
		t.Errorf("of a route that is gone: %+v", list)
	}
}

// Sidecars are answered by the product's server: for the pod of their certificate, and for no other.
func TestServe(t *testing.T) {
	cart := pod("cart", "10.1.0.2")
	c := start(t, xdstest.Options{Objects: []client.Object{cart, service("web", "10.96.0.1"), endpoints("web", "10.1.0.1")}})
	s := serve(t, c)
	certificate, err := c.Certificate(cart)
	must(t, err)
	conn, err := grpc.NewClient(s.Address, grpc.WithTransportCredentials(credentials.NewTLS(c.ClientTLS(certificate))))
	must(t, err)
	defer conn.Close()
	ask := func(pod string) (*discoveryv3.DeltaDiscoveryResponse, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
		must(t, err)
		n := node.Node{Namespace: "shop", Pod: pod, UID: string(cart.UID), ServiceAccount: "cart", Version: "test"}
		must(t, stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: n.Proto(), TypeUrl: envoy.ClusterType}))
		return stream.Recv()
	}
	if r, err := ask("cart"); err != nil || !slices.ContainsFunc(r.Resources, func(r *discoveryv3.Resource) bool { return strings.Contains(r.Name, "/web/") }) {
		t.Errorf("%v, %v", r, err)
	}
	if _, err := ask("other"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("for another pod: %v", err)
	}
}

// A second replica of the same cluster, as after an upgrade, publishes the same.
func TestReplicas(t *testing.T) {
	first := start(t, xdstest.Options{Objects: []client.Object{service("web", "10.96.0.1"), endpoints("web", "10.1.0.1")}})
	second := start(t, xdstest.Options{Cluster: first.Cluster, Authority: first.Authority})
	must(t, first.Apply(service("late", "10.96.0.2")))
	var all [2]map[string]map[string]string
	for i, c := range []*xdstest.ControlPlane{first, second} {
		must(t, c.Published())
		all[i] = published(t, serve(t, c))
	}
	if !maps.EqualFunc(all[0], all[1], maps.Equal[map[string]string, map[string]string]) || len(all[0]["Cluster"]) == 0 {
		t.Errorf("%v and %v", all[0], all[1])
	}
}
