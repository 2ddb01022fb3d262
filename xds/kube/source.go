// Package kube watches the Kubernetes objects that the mesh is built from. It gives events (which
// object changed) and reads (what it is now), both from controller-runtime's cache; it knows no
// Envoy protos.
package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// serviceIndex finds EndpointSlices by "<namespace>/<service>".
const serviceIndex = "mizzen.service"

// Changes are what has changed since the last Take, each object once however often it changed.
type Changes struct {
	Services  map[mesh.Key]struct{}
	Endpoints map[mesh.Key]struct{} // by the Service they belong to
	CIDRs     bool
	// Since is when the first of them was heard of.
	Since time.Time
}

// Source watches Services, EndpointSlices and ServiceCIDRs.
type Source struct {
	cache cache.Cache
	// hasServiceCIDRs is false on clusters whose API has no ServiceCIDR (before Kubernetes 1.33).
	hasServiceCIDRs bool

	mu      sync.Mutex
	changes Changes
	wake    chan struct{}
}

// NewSource registers informers and an index on the cache. The cache need not be started yet. mapper
// tells whether the cluster has ServiceCIDRs.
func NewSource(ctx context.Context, c cache.Cache, mapper meta.RESTMapper) (*Source, error) {
	s := &Source{cache: c, wake: make(chan struct{}, 1), changes: newChanges()}
	err := c.IndexField(ctx, &discoveryv1.EndpointSlice{}, serviceIndex, func(o client.Object) []string {
		return []string{serviceOf(o).String()}
	})
	if err != nil {
		return nil, fmt.Errorf("index EndpointSlices: %w", err)
	}
	watches := map[client.Object]func(*Changes, client.Object){
		&corev1.Service{}:            func(c *Changes, o client.Object) { c.Services[keyOf(o)] = struct{}{} },
		&discoveryv1.EndpointSlice{}: func(c *Changes, o client.Object) { c.Endpoints[serviceOf(o)] = struct{}{} },
	}
	gvk := networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR")
	switch _, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version); {
	case err == nil:
		s.hasServiceCIDRs = true
		watches[&networkingv1.ServiceCIDR{}] = func(c *Changes, _ client.Object) { c.CIDRs = true }
	case !meta.IsNoMatchError(err):
		return nil, fmt.Errorf("look up %s: %w", gvk, err)
	}
	for object, note := range watches {
		if err := s.watch(ctx, object, note); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func newChanges() Changes {
	return Changes{Services: map[mesh.Key]struct{}{}, Endpoints: map[mesh.Key]struct{}{}}
}

func (s *Source) watch(ctx context.Context, object client.Object, note func(*Changes, client.Object)) error {
	informer, err := s.cache.GetInformer(ctx, object, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch %T: %w", object, err)
	}
	changed := func(x any) {
		if gone, ok := x.(toolscache.DeletedFinalStateUnknown); ok {
			x = gone.Obj
		}
		o, ok := x.(client.Object)
		if !ok {
			return
		}
		s.mu.Lock()
		note(&s.changes, o)
		if s.changes.Since.IsZero() {
			s.changes.Since = time.Now()
		}
		s.mu.Unlock()
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: changed,
		UpdateFunc: func(before, now any) {
			changed(before) // an EndpointSlice may have belonged to another Service
			changed(now)
		},
		DeleteFunc: changed,
	})
	return err
}

// Changed is readable when there is something to Take.
func (s *Source) Changed() <-chan struct{} { return s.wake }

// Take gives what has changed and starts anew.
func (s *Source) Take() Changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.changes
	s.changes = newChanges()
	return out
}

// Sync waits until the first list of everything is in the cache; false if ctx ends before.
func (s *Source) Sync(ctx context.Context) bool { return s.cache.WaitForCacheSync(ctx) }

// Services lists all Services. They are the cache's own: read only.
func (s *Source) Services(ctx context.Context) ([]*corev1.Service, error) {
	var list corev1.ServiceList
	if err := s.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Services: %w", err)
	}
	return pointers(list.Items), nil
}

// Service reads one Service, nil if there is none.
func (s *Source) Service(ctx context.Context, key mesh.Key) (*corev1.Service, error) {
	var svc corev1.Service
	err := s.cache.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name}, &svc)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("get Service %s: %w", key, err)
	}
	if err != nil {
		return nil, nil
	}
	return &svc, nil
}

// EndpointSlices lists those of one Service. They are the cache's own: read only.
func (s *Source) EndpointSlices(ctx context.Context, service mesh.Key) ([]*discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := s.cache.List(ctx, &list, client.InNamespace(service.Namespace),
		client.MatchingFields{serviceIndex: service.String()}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list EndpointSlices of %s: %w", service, err)
	}
	return pointers(list.Items), nil
}

// ServiceCIDRs lists the ranges of cluster IPs; none on a cluster whose API does not have them.
func (s *Source) ServiceCIDRs(ctx context.Context) ([]*networkingv1.ServiceCIDR, error) {
	if !s.hasServiceCIDRs {
		return nil, nil
	}
	var list networkingv1.ServiceCIDRList
	if err := s.cache.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list ServiceCIDRs: %w", err)
	}
	return pointers(list.Items), nil
}

func keyOf(o client.Object) mesh.Key { return mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()} }

// serviceOf is the Service that an EndpointSlice belongs to.
func serviceOf(o client.Object) mesh.Key {
	return mesh.Key{Namespace: o.GetNamespace(), Name: o.GetLabels()[discoveryv1.LabelServiceName]}
}

func pointers[T any](items []T) []*T {
	out := make([]*T, len(items))
	for i := range items {
		out[i] = &items[i]
	}
	return out
}
