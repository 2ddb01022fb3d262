package kubetest

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// observed is a cache of which it is known how far its event handlers are.
type observed struct {
	cache.Cache
	cluster *Cluster
}

// GetInformer returns an informer whose handlers are listened to.
func (o *observed) GetInformer(ctx context.Context, of client.Object, opts ...cache.InformerGetOption) (cache.Informer, error) {
	inner, err := o.Cache.GetInformer(ctx, of, opts...)
	if err != nil {
		return nil, err
	}
	kind, err := o.cluster.kindOf(of)
	return &informer{Informer: inner, cache: o, kind: kind}, err
}

// RemoveInformer forgets the handlers, which hear of nothing more.
func (o *observed) RemoveInformer(ctx context.Context, of client.Object) error {
	kind, err := o.cluster.kindOf(of)
	if err != nil {
		return err
	}
	o.forget(func(l *listener) bool { return l.kind == kind })
	return o.Cache.RemoveInformer(ctx, of)
}

// Start forgets all handlers at its end.
func (o *observed) Start(ctx context.Context) error {
	defer o.forget(func(*listener) bool { return true })
	return o.Cache.Start(ctx)
}

func (o *observed) forget(which func(*listener) bool) {
	o.cluster.mu.Lock()
	defer o.cluster.mu.Unlock()
	o.cluster.listeners = slices.DeleteFunc(o.cluster.listeners, func(l *listener) bool { return l.cache == o && which(l) })
}

type informer struct {
	cache.Informer
	cache *observed
	kind  schema.GroupVersionKind
}

func (i *informer) AddEventHandler(h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	return i.add(h, i.Informer.AddEventHandler)
}

func (i *informer) AddEventHandlerWithResyncPeriod(h toolscache.ResourceEventHandler, resync time.Duration) (toolscache.ResourceEventHandlerRegistration, error) {
	return i.add(h, func(h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
		return i.Informer.AddEventHandlerWithResyncPeriod(h, resync)
	})
}

func (i *informer) AddEventHandlerWithOptions(h toolscache.ResourceEventHandler, o toolscache.HandlerOptions) (toolscache.ResourceEventHandlerRegistration, error) {
	return i.add(h, func(h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
		return i.Informer.AddEventHandlerWithOptions(h, o)
	})
}

func (i *informer) add(
	h toolscache.ResourceEventHandler, to func(toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error),
) (toolscache.ResourceEventHandlerRegistration, error) {
	l := &listener{handler: h, cache: i.cache, kind: i.kind}
	registration, err := to(l)
	if err != nil {
		return nil, err
	}
	l.synced = registration.HasSynced
	i.cache.cluster.mu.Lock()
	defer i.cache.cluster.mu.Unlock()
	l.first = i.cache.cluster.versions[i.kind]
	i.cache.cluster.listeners = append(i.cache.cluster.listeners, l)
	return registration, nil
}

// listener is an event handler that notes the version of each change after it has been told.
type listener struct {
	handler toolscache.ResourceEventHandler
	cache   *observed
	kind    schema.GroupVersionKind
	synced  func() bool
	// first is the version up to which all that is there is in the first list, and last the newest of which the handler was told.
	first int
	last  atomic.Int64
}

// heard reports whether the handler has returned from the change of this version. Those of the first list come in any order,
// all later ones in theirs.
func (l *listener) heard(version int) bool {
	return l.synced() && (version <= l.first || l.last.Load() >= int64(version))
}

// OnAdd tells of a new object.
func (l *listener) OnAdd(o any, first bool) { l.handler.OnAdd(o, first); l.note(o) }

// OnUpdate tells of a changed one.
func (l *listener) OnUpdate(before, now any) { l.handler.OnUpdate(before, now); l.note(now) }

// OnDelete tells of one that is gone.
func (l *listener) OnDelete(o any) { l.handler.OnDelete(o); l.note(o) }

func (l *listener) note(x any) {
	if gone, ok := x.(toolscache.DeletedFinalStateUnknown); ok {
		x = gone.Obj
	}
	if o, ok := x.(client.Object); ok {
		if v, err := version(o); err == nil {
			l.last.Store(max(l.last.Load(), int64(v)))
		}
	}
}
