// Package lookout runs a reconciler that looks at a few objects of known names as a whole: when one of
// them changes, at the start, and on becoming leader. It may import Kubernetes clients and nothing else of
// this module.
package lookout

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// Object is what is watched, its metadata only and by name, so that the role needs to allow no others.
type Object struct {
	GroupVersion schema.GroupVersion
	Kind         string
	// Namespace is empty for an object of the cluster.
	Namespace, Name string
}

// Options of Add. All fields are required.
type Options struct {
	Name       string
	Reconciler reconcile.Reconciler
	Objects    []Object
	// OnLead is called with a task to run on becoming leader.
	OnLead func(task func(context.Context))
}

// All triggers are one request: there is one thing to look at.
var request = reconcile.Request{}

// Add makes the manager run the reconciler, in every replica.
func Add(mgr manager.Manager, o Options) error {
	byObject := map[client.Object]cache.ByObject{}
	var objects []*metav1.PartialObjectMetadata
	for _, w := range o.Objects {
		object := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: w.GroupVersion.String(), Kind: w.Kind}}
		named := fields.OneTermEqualSelector("metadata.name", w.Name)
		if w.Namespace == "" {
			byObject[object] = cache.ByObject{Field: named}
		} else {
			byObject[object] = cache.ByObject{Namespaces: map[string]cache.Config{w.Namespace: {FieldSelector: named}}}
		}
		objects = append(objects, object)
	}
	watches, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), ByObject: byObject,
	})
	if err != nil {
		return fmt.Errorf("cache of %s: %w", o.Name, err)
	}
	if err := mgr.Add(watches); err != nil {
		return err
	}
	everyReplica := false
	c, err := controller.New(o.Name, mgr, controller.Options{
		Reconciler:         o.Reconciler,
		NeedLeaderElection: &everyReplica,
		RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 10*time.Second),
	})
	if err != nil {
		return err
	}
	same := handler.TypedEnqueueRequestsFromMapFunc(func(context.Context, *metav1.PartialObjectMetadata) []reconcile.Request {
		return []reconcile.Request{request}
	})
	for _, object := range objects {
		if err := c.Watch(source.Kind(watches, object, same)); err != nil {
			return err
		}
	}
	return c.Watch(kicks(o.OnLead))
}

// kicks triggers a first look, which nothing else does where no object exists yet, and one whenever this
// replica becomes the leader.
func kicks(onLead func(task func(context.Context))) source.Source {
	elected := make(chan struct{}, 1)
	onLead(func(context.Context) {
		select {
		case elected <- struct{}{}:
		default:
		}
	})
	return source.Func(func(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		queue.Add(request)
		go func() {
			for {
				select {
				case <-elected:
					queue.Add(request)
				case <-ctx.Done():
					return
				}
			}
		}()
		return nil
	})
}
