package authority

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// All triggers are one request: there is one thing to look at.
var request = reconcile.Request{}

// SetupWithManager watches the Secret, metadata only and by name, so that the role needs to allow no
// other. onLead is called with a task to run on becoming leader.
func (m *Manager) SetupWithManager(mgr manager.Manager, onLead func(task func(context.Context))) error {
	secret := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: corev1.SchemeGroupVersion.String(), Kind: "Secret"}}
	byName := fields.OneTermEqualSelector("metadata.name", m.opts.SecretName)
	watches, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(),
		Scheme:     mgr.GetScheme(),
		Mapper:     mgr.GetRESTMapper(),
		ByObject: map[client.Object]cache.ByObject{
			secret: {Namespaces: map[string]cache.Config{m.opts.Namespace: {FieldSelector: byName}}},
		},
	})
	if err != nil {
		return fmt.Errorf("identity CA cache: %w", err)
	}
	if err := mgr.Add(watches); err != nil {
		return err
	}
	everyReplica := false
	c, err := controller.New("identity-ca", mgr, controller.Options{
		Reconciler:         m,
		NeedLeaderElection: &everyReplica,
		RateLimiter:        workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 10*time.Second),
	})
	if err != nil {
		return err
	}
	same := handler.TypedEnqueueRequestsFromMapFunc(func(context.Context, *metav1.PartialObjectMetadata) []reconcile.Request {
		return []reconcile.Request{request}
	})
	if err := c.Watch(source.Kind(watches, secret, same)); err != nil {
		return err
	}
	return c.Watch(kicks(onLead))
}

// kicks triggers a first look, which nothing else does where there is no Secret yet, and one whenever
// this replica becomes the leader.
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
