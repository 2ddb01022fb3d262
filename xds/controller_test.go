package xds

import (
	"context"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	toolstesting "k8s.io/client-go/tools/cache/testing"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/kubetest"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// fakeCluster is an API server with the Gateway API, watched by a real cache.
type fakeCluster struct {
	services, slices, http, grpc, tls, tcp, grants, policies, pods, namespaces, authorization, crds *toolstesting.FakeControllerSource

	source *kube.Source
}

func newFakeCluster(t *testing.T) *fakeCluster { return newLateCluster(t, 0) }

// lateMapper is an API server that does not serve AuthorizationPolicies the first times that it is asked.
type lateMapper struct {
	meta.RESTMapper
	late *atomic.Int32
}

func (m lateMapper) RESTMapping(gk schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	if gk.Kind == string(kube.AuthorizationPolicy) && m.late.Add(-1) >= 0 {
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
		authorization: api.Source(&v1alpha1.AuthorizationPolicy{}),
		namespaces:    api.Source(kube.NamespaceMetadata()), crds: api.Source(kube.CRDMetadata()),
	}
	f.namespaces.Add(namespace("shop", ""))
	for _, add := range first {
		add(f)
	}
	c, err := api.Cache()
	if err != nil {
		t.Fatal(err)
	}
	if f.source, err = kube.NewSource(t.Context(), c, lateMapper{api.Mapper(), late}, true, logr.Discard()); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.Start(t.Context()) }()
	return f
}

// namespace is one with a mode, "" for none.
func namespace(name, mode string) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: name}}
	if mode != "" {
		o.Annotations = map[string]string{"mizzen.dev/mtls": mode}
	}
	return o
}

type noStatuses struct{}

func (noStatuses) Set(map[mesh.Key][]status.Status) {}
func (noStatuses) SetWhole([]status.Status)         {}
func (noStatuses) Forget(kube.ID)                   {}
func (noStatuses) Written(kube.ID)                  {}

// The endpoints of a Service go out at once, but not if the Service is deleted: a route that sent there may have been
// changed a moment before, and is held back. Nor if its ports have other names, by which the published ones would find
// no endpoints.
func TestEndpointsGoWithTheirService(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "v1", Labels: map[string]string{discoveryv1.LabelServiceName: "v1"}}
	key := mesh.Key{Namespace: meta.Namespace, Name: meta.Name}
	service := func(port string) *corev1.Service {
		return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
			ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, Ports: []corev1.ServicePort{{Name: port, Port: 80}},
		}}
	}
	slice := func(port string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
			Ports:     []discoveryv1.EndpointPort{{Name: &port, Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.1.0.1"}}},
		}
	}
	for name, test := range map[string]struct {
		// port names of the Service and of its slices; empty for none of them.
		service, slices string
		// atOnce: what is published is another before the Service is; endpoints: there are some after it.
		atOnce, endpoints bool
	}{
		"none ready": {service: "http", atOnce: true},
		"deleted":    {},
		"renamed":    {service: "http-web", slices: "http-web", endpoints: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeCluster(t)
			f.services.Add(service("http"))
			f.slices.Add(slice("http"))
			store := server.NewStore()
			c := NewController(Options{Source: f.source, Store: store, Config: configtest.WithoutIdentity(), Log: logr.Discard(), Statuses: noStatuses{}})
			if !f.source.Sync(t.Context()) {
				t.Fatal("no sync")
			}
			f.await(t, key, "http", "http") // the first list may have come before them
			if err := c.first(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := assignments(t, store)
			if len(before) == 0 {
				t.Fatal("no endpoints are published")
			}
			changes := kube.Changes{Endpoints: map[mesh.Key]struct{}{key: {}}}
			switch test.service {
			case "http":
			case "":
				f.services.Delete(service("http"))
				changes.Services = map[mesh.Key]struct{}{key: {}}
			default:
				f.services.Modify(service(test.service))
				changes.Services = map[mesh.Key]struct{}{key: {}}
			}
			if test.slices == "" {
				f.slices.Delete(slice("http"))
			} else {
				f.slices.Modify(slice(test.slices))
			}
			f.await(t, key, test.service, test.slices)
			c.take(t.Context(), changes)
			if now := assignments(t, store); maps.Equal(now, before) == test.atOnce {
				t.Errorf("published at once: %v, before %v", now, before)
			}
			c.publishHeld(t.Context())
			if now := assignments(t, store); maps.Equal(now, before) != test.endpoints || test.service == "" && len(now) > 0 {
				t.Errorf("published with the Service: %v, before %v", now, before)
			}
		})
	}
}

// await waits until the cache has a Service and its slices with ports of these names, empty for none of them.
func (f *fakeCluster) await(t *testing.T, key mesh.Key, service, slice string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := wait.PollUntilContextCancel(ctx, time.Millisecond, true, func(ctx context.Context) (bool, error) {
		svc, err := f.source.Service(ctx, key)
		if err != nil {
			return false, err
		}
		slices, err := f.source.EndpointSlices(ctx, key)
		if err != nil {
			return false, err
		}
		var servicePort, slicePort string
		if svc != nil {
			servicePort = svc.Spec.Ports[0].Name
		}
		if len(slices) > 0 {
			slicePort = *slices[0].Ports[0].Name
		}
		return servicePort == service && slicePort == slice, nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// assignments are the versions of the endpoints in the store.
func assignments(t *testing.T, store *server.Store) map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	server.New(server.Options{Store: store, Log: logr.Discard()}).Debug().ServeHTTP(w, httptest.NewRequest("GET", "/debug/resources", nil))
	var versions map[string]map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &versions); err != nil {
		t.Fatal(err)
	}
	return versions["ClusterLoadAssignment"]
}
