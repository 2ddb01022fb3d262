package xds

import (
	"context"
	"encoding/json"
	"maps"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	toolstesting "k8s.io/client-go/tools/cache/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// fakeCluster is an API server of Services and EndpointSlices, watched by a real cache.
type fakeCluster struct {
	services, slices *toolstesting.FakeControllerSource
	source           *kube.Source
}

func newFakeCluster(t *testing.T) *fakeCluster {
	t.Helper()
	f := &fakeCluster{services: toolstesting.NewFakeControllerSource(), slices: toolstesting.NewFakeControllerSource()}
	gv := corev1.SchemeGroupVersion
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{gv})
	mapper.Add(gv.WithKind("Service"), meta.RESTScopeNamespace)
	mapper.Add(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), meta.RESTScopeNamespace)
	mapper.Add(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, meta.RESTScopeRoot)
	o := kube.CacheOptions()
	o.Scheme, o.Mapper = clientgoscheme.Scheme, mapper
	o.NewInformer = func(_ toolscache.ListerWatcher, of runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
		var lw toolscache.ListerWatcher = toolstesting.NewFakeControllerSource()
		switch of.(type) {
		case *corev1.Service:
			lw = f.services
		case *discoveryv1.EndpointSlice:
			lw = f.slices
		}
		return toolscache.NewSharedIndexInformer(lw, of, resync, by)
	}
	c, err := cache.New(&rest.Config{}, o)
	if err != nil {
		t.Fatal(err)
	}
	if f.source, err = kube.NewSource(t.Context(), c, mapper, logr.Discard()); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.Start(t.Context()) }()
	return f
}

type noStatuses struct{}

func (noStatuses) Set(map[mesh.Key][]status.Status) {}
func (noStatuses) Written(kube.ID)                  {}

// The endpoints of a Service go out at once, but not if the Service is deleted: a route that sent there may have been
// changed a moment before, and is held back.
func TestEndpointsOfADeletedServiceGoWithIt(t *testing.T) {
	meta := metav1.ObjectMeta{Namespace: "shop", Name: "v1", Labels: map[string]string{discoveryv1.LabelServiceName: "v1"}}
	key := mesh.Key{Namespace: meta.Namespace, Name: meta.Name}
	service := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		ClusterIP: "10.0.0.1", ClusterIPs: []string{"10.0.0.1"}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
	}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4,
		Ports:     []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}},
		Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"10.1.0.1"}}},
	}
	for _, deleted := range []bool{false, true} {
		f := newFakeCluster(t)
		f.services.Add(service.DeepCopy())
		f.slices.Add(slice.DeepCopy())
		store := server.NewStore()
		c := NewController(Options{Source: f.source, Store: store, Config: config.Default(), Log: logr.Discard(), Statuses: noStatuses{}})
		if !f.source.Sync(t.Context()) {
			t.Fatal("no sync")
		}
		if err := c.first(t.Context()); err != nil {
			t.Fatal(err)
		}
		before := assignments(t, store)
		if len(before) == 0 {
			t.Fatal("no endpoints are published")
		}
		changes := kube.Changes{Endpoints: map[mesh.Key]struct{}{key: {}}}
		if deleted {
			f.services.Delete(service)
			changes.Services = map[mesh.Key]struct{}{key: {}}
		}
		f.slices.Delete(slice)
		f.await(t, key, deleted)
		c.take(t.Context(), changes)
		if now := assignments(t, store); maps.Equal(now, before) != deleted {
			t.Errorf("Service deleted=%t: published at once: %v, before %v", deleted, now, before)
		}
		c.publishHeld(t.Context())
		if now := assignments(t, store); deleted && len(now) > 0 {
			t.Errorf("published with the Service: %v, want nothing left", now)
		}
	}
}

// await waits until the cache has no slices of a Service, nor the Service if it is deleted.
func (f *fakeCluster) await(t *testing.T, key mesh.Key, deleted bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := wait.PollUntilContextCancel(ctx, time.Millisecond, true, func(ctx context.Context) (bool, error) {
		svc, err := f.source.Service(ctx, key)
		if err != nil {
			return false, err
		}
		slices, err := f.source.EndpointSlices(ctx, key)
		return len(slices) == 0 && (svc == nil) == deleted, err
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
