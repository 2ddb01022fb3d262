package xds

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolstesting "k8s.io/client-go/tools/cache/testing"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/kubetest"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/translate"
	"github.com/mizzen-mesh/mizzen/xds/translate/translatetest"
)

// fakeCluster is an API server with the Gateway API, watched by a real cache.
type fakeCluster struct {
	services, slices, http, grpc, tls, tcp, grants, policies, pods, namespaces, authorization, cidrs, nodes, crds,
	udp, classes, gateways, listenerSets, backendTLS, configMaps *toolstesting.FakeControllerSource

	source *kube.Source
}

// newFakeCluster has what first adds before the cache lists it.
func newFakeCluster(t *testing.T, first ...func(*fakeCluster)) *fakeCluster {
	return newLateCluster(t, 0, first...)
}

// lateMapper is an API server that does not serve AuthorizationPolicies the first times that it is asked.
type lateMapper struct {
	meta.RESTMapper
	late *atomic.Int32
}

func (m lateMapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	if gk.Kind == string(mesh.KindAuthorizationPolicy) && m.late.Add(-1) >= 0 {
		return nil, &meta.NoKindMatchError{GroupKind: gk, SearchedVersions: versions}
	}
	return m.RESTMapper.RESTMapping(gk, versions...)
}

func newLateCluster(t *testing.T, times int32, first ...func(*fakeCluster)) *fakeCluster {
	t.Helper()
	late := new(atomic.Int32)
	late.Store(times)
	api, err := kubetest.New()
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeCluster{
		services: api.Source(&corev1.Service{}), slices: api.Source(&discoveryv1.EndpointSlice{}), pods: api.Source(&corev1.Pod{}),
		http: api.Source(&gatewayv1.HTTPRoute{}), grpc: api.Source(&gatewayv1.GRPCRoute{}),
		tls: api.Source(&gatewayv1.TLSRoute{}), tcp: api.Source(&gatewayv1.TCPRoute{}),
		grants: api.Source(&gatewayv1beta1.ReferenceGrant{}), policies: api.Source(&gatewayxv1alpha1.XBackendTrafficPolicy{}),
		authorization: api.Source(&v1alpha1.AuthorizationPolicy{}), cidrs: api.Source(&networkingv1.ServiceCIDR{}), nodes: api.Source(kube.NodeMetadata()),
		namespaces: api.Source(kube.NamespaceMetadata()), crds: api.Source(kube.CRDMetadata()), configMaps: api.Source(&corev1.ConfigMap{}),
		udp: api.Source(&gatewayv1.UDPRoute{}), classes: api.Source(&gatewayv1.GatewayClass{}), gateways: api.Source(&gatewayv1.Gateway{}),
		listenerSets: api.Source(&gatewayv1.ListenerSet{}), backendTLS: api.Source(&gatewayv1.BackendTLSPolicy{}),
	}
	f.namespaces.Add(namespace("shop"))
	for _, add := range first {
		add(f)
	}
	c, err := api.Cache()
	if err != nil {
		t.Fatal(err)
	}
	if f.source, err = kube.NewSource(t.Context(), c, lateMapper{api.Mapper(), late}, kube.WatchFor(config.Default()), logr.Discard()); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.Start(t.Context()) }()
	return f
}

func namespace(name string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: name}}
}

// TestControllerFollowsEveryChange: whatever changes in the cluster, the store comes to what follows from the objects that
// there are. The translator has the same property for statuses, problems and classes of pods (TestAccumulatedIsAll);
// here it is that the source, the times of holding off and the store lose nothing.
func TestControllerFollowsEveryChange(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			cluster, f := translatetest.New(seed), newFakeCluster(t)
			for name := range map[string]bool{"a": true, "b": true} {
				cluster.Objects[mesh.ID{Kind: mesh.KindNamespace, Key: mesh.Key{Name: name}}] = namespace(name)
				f.namespaces.Add(namespace(name))
			}
			kinds := slices.DeleteFunc(slices.Clone(translatetest.Kinds), func(k mesh.Kind) bool {
				return k == mesh.KindNamespace || k == mesh.KindSecret // whose pods are gone before it; and of which there is no source here
			})
			change := func() {
				cluster.Change(kinds, func(id mesh.ID, before, now translatetest.Object) {
					switch source := f.of(id.Kind); {
					case before == nil:
						source.Add(now)
					case now == nil:
						source.Delete(before)
					default:
						source.Modify(now)
					}
				})
			}
			cfg := secureConfig()
			c := run(t, Options{Source: f.source, Store: server.NewStore(), Config: cfg, HoldOff: HoldOff{
				Quiet: time.Millisecond, Max: time.Duration(1+rand.N(20)) * time.Millisecond, Reconnect: time.Duration(1+rand.N(20)) * time.Millisecond,
			}})
			for range 20 {
				for range 1 + cluster.IntN(6) {
					change()
					if cluster.IntN(3) == 0 {
						time.Sleep(time.Duration(cluster.IntN(3)) * time.Millisecond) // it may see a part of what has changed
					}
				}
				all := server.NewStore()
				objects := []metav1.Object{namespace("shop")}
				for _, o := range cluster.Objects {
					objects = append(objects, o)
				}
				if _, err := all.Apply(translate.All(cfg, objects...).Change); err != nil {
					t.Fatal(err)
				}
				want := beyond(published(t, all))
				eventually(t, "what is published follows", func() bool {
					return cmp.Equal(beyond(published(t, c.opt.Store)), want)
				})
			}
		})
	}
}

// beyond leaves out what a controller may know beyond what there is: identities stay in clusters, and ranges of pods in
// listeners, because to forget one is to change a cluster or a listener.
func beyond(versions map[string]map[string]string) map[string]map[string]string {
	for _, kind := range []string{"Cluster", "Listener"} {
		for name := range versions[kind] {
			versions[kind][name] = ""
		}
	}
	return versions
}

// of is where objects of a kind are.
func (f *fakeCluster) of(kind mesh.Kind) *toolstesting.FakeControllerSource {
	return map[mesh.Kind]*toolstesting.FakeControllerSource{
		mesh.KindService: f.services, mesh.KindEndpointSlice: f.slices, mesh.KindHTTPRoute: f.http, mesh.KindGRPCRoute: f.grpc,
		mesh.KindTLSRoute: f.tls, mesh.KindTCPRoute: f.tcp, mesh.KindReferenceGrant: f.grants, mesh.KindTrafficPolicy: f.policies,
		mesh.KindPod: f.pods, mesh.KindNamespace: f.namespaces, mesh.KindAuthorizationPolicy: f.authorization, mesh.KindServiceCIDR: f.cidrs, mesh.KindNode: f.nodes,
		mesh.KindUDPRoute: f.udp, mesh.KindGatewayClass: f.classes, mesh.KindGateway: f.gateways, mesh.KindListenerSet: f.listenerSets,
		mesh.KindBackendTLSPolicy: f.backendTLS, mesh.KindConfigMap: f.configMaps,
	}[kind]
}

// secureConfig is the default configuration with a trust domain.
func secureConfig() *config.Mesh {
	cfg := config.Default()
	cfg.MTLS.TrustDomain, cfg.ServiceCIDRs = "cluster.local", []string{"10.96.0.0/12"}
	return cfg
}

// run runs a controller until the end of the test, and returns it when it is ready.
func run(t *testing.T, o Options) *Controller {
	t.Helper()
	o.Log = logr.Discard()
	if o.Statuses == nil {
		o.Statuses = noStatuses{}
	}
	c := NewController(o)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-c.Ready():
	case <-time.After(10 * time.Second):
		t.Fatal("not ready")
	}
	return c
}

// An API server that has just started may not serve AuthorizationPolicies yet. Where there is a CRD of them no sidecar
// is answered before they are read.
func TestPoliciesAreWaitedFor(t *testing.T) {
	policy := &v1alpha1.AuthorizationPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "first", Generation: 1}}
	f := newLateCluster(t, 2, func(f *fakeCluster) { // when the source is made, and when it runs
		f.crds.Add(&metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
			ObjectMeta: metav1.ObjectMeta{Name: "authorizationpolicies.mizzen.dev"},
		})
		f.pods.Add(translatetest.Pod("shop", "cart-0", "cart", "10.1.0.1"))
		f.authorization.Add(policy)
	})
	go func() { _ = f.source.Run(t.Context()) }()
	c := run(t, Options{Source: f.source, Store: server.NewStore(), Config: secureConfig()})
	for name := range published(t, c.opt.Store)["Listener"] {
		if strings.HasPrefix(name, "inbound/permissive,policies=") {
			return
		}
	}
	t.Errorf("no listener for a pod with policies: %v", published(t, c.opt.Store)["Listener"])
}

// When other policies hold for the pods of a Service, its clusters change after the time that sidecars have to take the
// policies, once.
func TestCallersConnectAnewLater(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "cart", Labels: map[string]string{discoveryv1.LabelServiceName: "cart"}}
	pod := translatetest.Pod("shop", "cart-0", "cart", "10.1.0.1")
	f := newFakeCluster(t, func(f *fakeCluster) {
		f.pods.Add(pod)
		f.services.Add(httpService("cart", "10.96.0.1"))
		f.slices.Add(&discoveryv1.EndpointSlice{
			ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
			Ports:     []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.1.0.1"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: "shop", Name: "cart-0"}}},
		})
	})
	const delay = 300 * time.Millisecond
	c := run(t, Options{Source: f.source, Store: server.NewStore(), Config: secureConfig(), HoldOff: HoldOff{Quiet: time.Millisecond, Max: time.Millisecond, Reconnect: delay}})
	cluster := func() string { return published(t, c.opt.Store)["Cluster"]["outbound/shop/cart/80"] }
	before, start := cluster(), time.Now()
	f.authorization.Add(&v1alpha1.AuthorizationPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "first", Generation: 1}})
	eventually(t, "the cluster is another", func() bool { return cluster() != before })
	if took := time.Since(start); took < delay {
		t.Errorf("the cluster is another after %v, before sidecars had %v", took, delay)
	}
}

type noStatuses struct{}

func (noStatuses) Set(map[mesh.ID][]mesh.Status) {}
func (noStatuses) SetWhole([]mesh.Status)        {}
func (noStatuses) Forget(mesh.ID)                {}
func (noStatuses) Written(mesh.ID)               {}

// published are the versions of everything in a store, by type and name.
func published(t *testing.T, store *server.Store) map[string]map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	server.New(server.Options{Store: store, Log: logr.Discard()}).Debug().ServeHTTP(w, httptest.NewRequest("GET", "/debug/resources", nil))
	var versions map[string]map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &versions); err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(versions, func(_ string, names map[string]string) bool { return len(names) == 0 })
	return versions
}
