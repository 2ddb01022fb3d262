// Package kube watches the Kubernetes objects that the mesh is built from, with controller-runtime's cache, and returns
// those that have changed. It knows no Envoy protos.
package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Changes are the objects that have changed since the last Take. An object that changed several times is there once.
type Changes struct {
	// Objects has the newest state of each object, nil if it was deleted. The objects are the cache's own: read only.
	Objects map[mesh.ID]metav1.Object
	// Statuses are objects of optional kinds whose status has changed.
	Statuses map[mesh.ID]struct{}
	// Since is when the first of these changes arrived.
	Since time.Time
}

// Source watches Services, EndpointSlices, ServiceCIDRs, namespaces, nodes, Secrets and ConfigMaps, and the optional kinds while they are
// served.
type Source struct {
	cache  cache.Cache
	mapper meta.RESTMapper
	log    logr.Logger
	// gateways is Watch.Gateways.
	gateways bool
	// watches are those of kinds that every cluster has.
	watches []toolscache.ResourceEventHandlerRegistration

	mu         sync.Mutex
	changes    Changes
	optional   map[mesh.Kind]*optional // those that are served
	wake       chan struct{}
	crdChanged chan struct{}
}

// Watch says which kinds are watched besides those of every mesh.
type Watch struct {
	// Pods are watched in a mesh with identities.
	Pods bool
	// Gateways: Secrets and ConfigMaps are watched.
	Gateways bool
}

// WatchFor returns what a mesh has to watch.
func WatchFor(cfg *config.Mesh) Watch {
	return Watch{Pods: cfg.MTLS.On(), Gateways: *cfg.Gateways.Enabled}
}

// NewSource registers informers with the cache, which is made with kubecache.Options and need not be started yet. mapper
// knows what the cluster serves.
func NewSource(ctx context.Context, c cache.Cache, mapper meta.RESTMapper, watch Watch, log logr.Logger) (*Source, error) {
	s := &Source{
		cache: c, mapper: mapper, log: log, gateways: watch.Gateways, changes: newChanges(), optional: map[mesh.Kind]*optional{},
		wake: make(chan struct{}, 1), crdChanged: make(chan struct{}, 1),
	}
	watches := map[mesh.Kind]client.Object{
		mesh.KindService: &corev1.Service{}, mesh.KindEndpointSlice: &discoveryv1.EndpointSlice{}, mesh.KindNamespace: NamespaceMetadata(),
		mesh.KindNode: NodeMetadata(),
	}
	if watch.Pods {
		watches[mesh.KindPod] = &corev1.Pod{}
	}
	if watch.Gateways {
		watches[mesh.KindSecret], watches[mesh.KindConfigMap] = &corev1.Secret{}, &corev1.ConfigMap{}
	}
	gvk := networkingv1.SchemeGroupVersion.WithKind(string(mesh.KindServiceCIDR))
	switch _, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version); {
	case err == nil:
		watches[mesh.KindServiceCIDR] = &networkingv1.ServiceCIDR{}
	case !meta.IsNoMatchError(err): // before Kubernetes 1.33
		return nil, fmt.Errorf("look up %s: %w", gvk, err)
	}
	for kind, object := range watches {
		err := s.watch(ctx, object, func(o client.Object, exists bool) {
			s.note(func(c *Changes) {
				id := mesh.ID{Kind: kind, Key: keyOf(o)}
				if c.Objects[id] = nil; exists {
					c.Objects[id] = o
				}
			})
		})
		if err != nil {
			return nil, err
		}
	}
	if err := s.watch(ctx, CRDMetadata(), func(client.Object, bool) { signal(s.crdChanged) }); err != nil {
		return nil, err
	}
	return s, s.startServed(ctx)
}

func newChanges() Changes {
	return Changes{Objects: map[mesh.ID]metav1.Object{}, Statuses: map[mesh.ID]struct{}{}}
}

// watch calls changed with each object of a kind that is new or has changed, and with the last state of a deleted one.
func (s *Source) watch(ctx context.Context, o client.Object, changed func(_ client.Object, exists bool)) error {
	informer, err := s.cache.GetInformer(ctx, o, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch %T: %w", o, err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(x any) { changed(object(x), true) },
		UpdateFunc: func(_, now any) { changed(object(now), true) },
		DeleteFunc: func(x any) { changed(object(x), false) },
	})
	s.watches = append(s.watches, registration)
	return err
}

// object returns the object in the argument of an informer's handler.
func object(x any) client.Object {
	if gone, ok := x.(toolscache.DeletedFinalStateUnknown); ok {
		x = gone.Obj
	}
	return x.(client.Object)
}

// note records a change and makes Changed readable.
func (s *Source) note(change func(*Changes)) {
	s.mu.Lock()
	change(&s.changes)
	if s.changes.Since.IsZero() {
		s.changes.Since = time.Now()
	}
	s.mu.Unlock()
	signal(s.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Changed is readable when there is something to Take.
func (s *Source) Changed() <-chan struct{} { return s.wake }

// Take returns what has changed since the last Take.
func (s *Source) Take() Changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.changes
	s.changes = newChanges()
	return out
}

// Sync waits until Take has the first list of everything. It reports false if ctx ends first. Run must be running.
func (s *Source) Sync(ctx context.Context) bool {
	synced := []toolscache.InformerSynced{s.optionalSynced, s.policiesSynced(ctx)}
	for _, watch := range s.watches {
		synced = append(synced, watch.HasSynced)
	}
	return toolscache.WaitForCacheSync(ctx.Done(), synced...)
}

// optionalSynced reports whether the first list of each optional kind that is watched now was read.
func (s *Source) optionalSynced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.optional {
		if o.registration != nil && !o.registration.HasSynced() { // without a registration the CRD is new, and its objects follow
			return false
		}
	}
	return true
}

// policiesSynced waits for AuthorizationPolicies if their CRD exists, even if the API server does not serve them yet, as
// happens when it has just started. Without these policies everything would be allowed. The other kinds may come later.
func (s *Source) policiesSynced(ctx context.Context) toolscache.InformerSynced {
	return func() bool {
		exists, err := s.crdExists(ctx, optionalKinds[mesh.KindAuthorizationPolicy].crd)
		if err != nil || !exists {
			return err == nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		o := s.optional[mesh.KindAuthorizationPolicy]
		return o != nil && o.registration != nil && o.registration.HasSynced()
	}
}

// NamespaceMetadata returns what a cache keeps of a namespace.
func NamespaceMetadata() *metav1.PartialObjectMetadata {
	return metadataOf(corev1.SchemeGroupVersion.WithKind(string(mesh.KindNamespace)))
}

// NodeMetadata returns what a cache keeps of a node.
func NodeMetadata() *metav1.PartialObjectMetadata {
	return metadataOf(corev1.SchemeGroupVersion.WithKind(string(mesh.KindNode)))
}

// metadataOf returns an empty object of a kind of which the cache keeps metadata alone.
func metadataOf(kind schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(kind)
	return o
}

func keyOf(o client.Object) mesh.Key { return mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()} }
