package gateway_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache/informertest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllertest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/gateway"
)

// A leader deploys what events tell of, and the next one again.
func TestLead(t *testing.T) {
	c := newCluster(t)
	cfg := config.Default()
	cfg.Sidecar.Image = "example.com/proxy:1"
	bundle, replaced := "first", make(chan struct{})
	for term := range 2 {
		informers := &informers{FakeInformers: informertest.FakeInformers{Scheme: c.Scheme()}}
		d, err := gateway.New(gateway.Options{
			Config: cfg, Client: c.Client, Live: c.Client, Cache: informers, Ports: c.ports, Events: c, Log: logr.Discard(),
			TrustBundle: func() (string, <-chan struct{}) { return bundle, replaced },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); d.Lead(ctx) }()
		tell := func(kind client.Object, object client.Object) func() {
			return func() {
				of, err := informers.GetInformer(ctx, kind)
				if err != nil {
					t.Error(err)
					return
				}
				of.(informer).add(object)
			}
		}
		service := &corev1.Service{}
		eventually(t, tell(&gatewayv1.Gateway{}, newGateway()), func() bool {
			return c.Get(ctx, client.ObjectKey{Namespace: "shop", Name: "web-mizzen"}, service) == nil
		})
		if err := c.Delete(ctx, service); err != nil {
			t.Fatal(err)
		}
		eventually(t, tell(&corev1.Service{}, service), func() bool {
			return c.Get(ctx, client.ObjectKey{Namespace: "shop", Name: "web-mizzen"}, &corev1.Service{}) == nil
		})
		eventually(t, func() {}, func() bool {
			class := &gatewayv1.GatewayClass{}
			return c.Get(ctx, client.ObjectKey{Name: "mizzen"}, class) == nil && len(class.Status.Conditions) > 0
		})
		if term == 0 {
			if err := c.Delete(ctx, &appsv1.Deployment{ObjectMeta: service.ObjectMeta}); err != nil {
				t.Fatal(err)
			}
			d.Check(key)
			eventually(t, func() {}, func() bool {
				return c.Get(ctx, client.ObjectKey{Namespace: "shop", Name: "web-mizzen"}, &appsv1.Deployment{}) == nil
			})
		}
		cancel()
		<-ended
		if err := c.Delete(t.Context(), &corev1.Service{ObjectMeta: service.ObjectMeta}); err != nil {
			t.Fatal(err)
		}
	}
}

// informers are those of a cache. All CRDs are there.
type informers struct {
	informertest.FakeInformers
	mu sync.Mutex
	// events is held while an informer gets a handler or tells of an event.
	events sync.Mutex
}

// informer is a FakeInformer for several goroutines.
type informer struct {
	*controllertest.FakeInformer
	events *sync.Mutex
}

func (i informer) AddEventHandler(h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	i.events.Lock()
	defer i.events.Unlock()
	return i.FakeInformer.AddEventHandler(h)
}

func (i informer) AddEventHandlerWithOptions(h toolscache.ResourceEventHandler, o toolscache.HandlerOptions) (toolscache.ResourceEventHandlerRegistration, error) {
	i.events.Lock()
	defer i.events.Unlock()
	return i.FakeInformer.AddEventHandlerWithOptions(h, o)
}

func (i informer) add(object client.Object) {
	i.events.Lock()
	defer i.events.Unlock()
	i.Add(object)
}

// GetInformer also takes metadata of CRDs, which the scheme does not know.
func (i *informers) GetInformer(ctx context.Context, object client.Object, opts ...cache.InformerGetOption) (cache.Informer, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := object.(*metav1.PartialObjectMetadata); ok {
		object = &corev1.Node{} // of which no other test object is
	}
	of, err := i.FakeInformers.GetInformer(ctx, object, opts...)
	if err != nil {
		return nil, err
	}
	return informer{of.(*controllertest.FakeInformer), &i.events}, nil
}

// eventually waits until something is so, and tells of an event again and again until then.
func eventually(t *testing.T, tell func(), is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it has not come")
		}
		tell()
	}
}
