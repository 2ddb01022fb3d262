// Package kube watches the Kubernetes objects that the mesh is built from. It gives events (which
// object changed) and reads (what it is now), both from controller-runtime's cache; it knows no
// Envoy protos.
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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	// Pods and Namespaces, where they are watched.
	Pods       map[mesh.Key]struct{}
	Namespaces map[string]struct{}
	// Objects are those of optional kinds that were changed, made or deleted; Statuses those of which at
	// most the status was changed.
	Objects, Statuses map[ID]struct{}
	// Since is when the first of them was heard of.
	Since time.Time
}

// Source watches Services, EndpointSlices and ServiceCIDRs, and the optional kinds while they are served.
type Source struct {
	cache  cache.Cache
	mapper meta.RESTMapper
	log    logr.Logger
	// hasServiceCIDRs is false on clusters whose API has no ServiceCIDR (before Kubernetes 1.33).
	hasServiceCIDRs bool

	mu         sync.Mutex
	changes    Changes
	optional   map[Kind]*optional // those that are served
	wake       chan struct{}
	crdChanged chan struct{}
}

// NewSource registers informers and an index on the cache, which is made with CacheOptions and need not
// be started yet. mapper tells what the cluster serves. Pods and the metadata of namespaces are watched if a mesh with
// identities wants them.
func NewSource(ctx context.Context, c cache.Cache, mapper meta.RESTMapper, pods bool, log logr.Logger) (*Source, error) {
	s := &Source{
		cache: c, mapper: mapper, log: log, changes: newChanges(), optional: map[Kind]*optional{},
		wake: make(chan struct{}, 1), crdChanged: make(chan struct{}, 1),
	}
	err := c.IndexField(ctx, &discoveryv1.EndpointSlice{}, serviceIndex, func(o client.Object) []string {
		return []string{serviceOf(o).String()}
	})
	if err != nil {
		return nil, fmt.Errorf("index EndpointSlices: %w", err)
	}
	watches := map[client.Object]func(client.Object){
		&corev1.Service{}: func(o client.Object) {
			s.note(func(c *Changes) { c.Services[keyOf(o)] = struct{}{} })
		},
		&discoveryv1.EndpointSlice{}: func(o client.Object) {
			s.note(func(c *Changes) { c.Endpoints[serviceOf(o)] = struct{}{} })
		},
		crdMetadata(): func(client.Object) { signal(s.crdChanged) },
	}
	if pods {
		watches[&corev1.Pod{}] = func(o client.Object) {
			s.note(func(c *Changes) { c.Pods[keyOf(o)] = struct{}{} })
		}
		watches[NamespaceMetadata()] = func(o client.Object) {
			s.note(func(c *Changes) { c.Namespaces[o.GetName()] = struct{}{} })
		}
	}
	gvk := networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR")
	switch _, err := mapper.RESTMapping(gvk.GroupKind(), gvk.Version); {
	case err == nil:
		s.hasServiceCIDRs = true
		watches[&networkingv1.ServiceCIDR{}] = func(client.Object) {
			s.note(func(c *Changes) { c.CIDRs = true })
		}
	case !meta.IsNoMatchError(err):
		return nil, fmt.Errorf("look up %s: %w", gvk, err)
	}
	for object, changed := range watches {
		if err := s.watch(ctx, object, changed); err != nil {
			return nil, err
		}
	}
	return s, s.startServed(ctx)
}

func newChanges() Changes {
	return Changes{
		Services: map[mesh.Key]struct{}{}, Endpoints: map[mesh.Key]struct{}{},
		Objects: map[ID]struct{}{}, Statuses: map[ID]struct{}{}, Pods: map[mesh.Key]struct{}{}, Namespaces: map[string]struct{}{},
	}
}

func (s *Source) watch(ctx context.Context, o client.Object, changed func(client.Object)) error {
	informer, err := s.cache.GetInformer(ctx, o, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch %T: %w", o, err)
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(x any) { changed(object(x)) },
		UpdateFunc: func(before, now any) {
			changed(object(before)) // an EndpointSlice may have belonged to another Service
			changed(object(now))
		},
		DeleteFunc: func(x any) { changed(object(x)) },
	})
	return err
}

// object is what a handler of an informer is given.
func object(x any) client.Object {
	if gone, ok := x.(toolscache.DeletedFinalStateUnknown); ok {
		x = gone.Obj
	}
	return x.(client.Object)
}

// note takes a change down and wakes who waits for it.
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

// Take gives what has changed and starts anew.
func (s *Source) Take() Changes {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.changes
	s.changes = newChanges()
	return out
}

// Sync waits until the first list of everything is here; false if ctx ends before. It needs Run beside it.
func (s *Source) Sync(ctx context.Context) bool {
	for !s.cacheSynced(ctx) {
		if ctx.Err() != nil {
			return false
		}
	}
	return toolscache.WaitForCacheSync(ctx.Done(), s.optionalSynced, s.policiesSynced(ctx))
}

// cacheSynced waits a second at the most: the cache waits on for a kind of which the watch has been stopped meanwhile,
// and not when it is asked anew.
func (s *Source) cacheSynced(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return s.cache.WaitForCacheSync(ctx)
}

// optionalSynced reports whether the kinds that are watched at this moment are read.
func (s *Source) optionalSynced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.optional {
		if o.registration != nil && !o.registration.HasSynced() { // without one its CRD has just come, and its objects follow
			return false
		}
	}
	return true
}

// policiesSynced waits for AuthorizationPolicies if there is a CRD of them, even if the API server says at first that it
// does not serve them, as one that has just started may. Other kinds come when they come; without these all is allowed.
func (s *Source) policiesSynced(ctx context.Context) toolscache.InformerSynced {
	return func() bool {
		exists, err := s.crdExists(ctx, optionalKinds[AuthorizationPolicy].crd)
		if err != nil || !exists {
			return err == nil
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		o := s.optional[AuthorizationPolicy]
		return o != nil && o.registration != nil && o.registration.HasSynced()
	}
}

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
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get Service %s: %w", key, err)
	}
	return &svc, nil
}

// Pods lists all Pods. They are the cache's own: read only.
func (s *Source) Pods(ctx context.Context) ([]*corev1.Pod, error) {
	var list corev1.PodList
	if err := s.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Pods: %w", err)
	}
	return pointers(list.Items), nil
}

// Pod reads one Pod, nil if there is none.
func (s *Source) Pod(ctx context.Context, key mesh.Key) (*corev1.Pod, error) {
	var pod corev1.Pod
	err := s.cache.Get(ctx, client.ObjectKey{Namespace: key.Namespace, Name: key.Name}, &pod)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get Pod %s: %w", key, err)
	}
	return &pod, nil
}

// NamespaceMetadata is what a cache keeps of a namespace.
func NamespaceMetadata() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return o
}

// Namespaces lists all namespaces, metadata only. They are the cache's own: read only.
func (s *Source) Namespaces(ctx context.Context) ([]*metav1.PartialObjectMetadata, error) {
	var list metav1.PartialObjectMetadataList
	list.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("NamespaceList"))
	if err := s.cache.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	return pointers(list.Items), nil
}

// Namespace reads one namespace, metadata only, nil if there is none.
func (s *Source) Namespace(ctx context.Context, name string) (*metav1.PartialObjectMetadata, error) {
	ns := NamespaceMetadata()
	err := s.cache.Get(ctx, client.ObjectKey{Name: name}, ns)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("get namespace %s: %w", name, err)
	}
	return ns, nil
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
