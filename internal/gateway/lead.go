package gateway

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/kube"
)

// workers is how many Gateways are brought up to date at the same time.
const workers = 4

// crdWait is the time after which a CRD is looked up again whose API is not served yet.
const crdWait = 2 * time.Second

// Lead deploys Gateways until ctx ends, as long as the cluster has the Gateway API. For Elector.OnLead.
func (d *Deployer) Lead(ctx context.Context) {
	changed := make(chan struct{}, 1)
	notify := func(any) {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	crds, err := d.opts.Cache.GetInformer(ctx, kube.CRDMetadata())
	if err != nil {
		d.opts.Log.Error(err, "Gateways are not deployed: cannot watch CRDs")
		return
	}
	registration, err := crds.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: notify, UpdateFunc: func(_, now any) { notify(now) }, DeleteFunc: notify,
	})
	if err != nil {
		d.opts.Log.Error(err, "Gateways are not deployed: cannot watch CRDs")
		return
	}
	defer func() { _ = crds.RemoveEventHandler(registration) }()

	stop, ended := func() {}, closed()
	defer func() {
		stop()
		<-ended
		d.forget()
	}()
	running := false
	for {
		exists, served := d.servesGateways(ctx)
		switch {
		case served && !running:
			stop, ended = d.start(ctx)
			running = true
		case !exists && running:
			stop()
			<-ended
			running = false
		}
		var again <-chan time.Time
		if exists && !served {
			again = time.After(crdWait) // a CRD exists before its API is served
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

// forget drops what only the leader knows.
func (d *Deployer) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue = nil
	clear(d.problems)
}

func closed() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// servesGateways reports whether the CRDs of Gateway and GatewayClass exist, and whether their API is served.
func (d *Deployer) servesGateways(ctx context.Context) (exist, served bool) {
	served = true
	for plural, kind := range map[string]string{"gateways": "Gateway", "gatewayclasses": "GatewayClass"} {
		if err := d.opts.Cache.Get(ctx, client.ObjectKey{Name: plural + "." + gatewayv1.GroupName}, kube.CRDMetadata()); err != nil {
			return false, false
		}
		_, err := d.opts.Client.RESTMapper().RESTMapping(schema.GroupKind{Group: gatewayv1.GroupName, Kind: kind}, gatewayv1.GroupVersion.Version)
		served = served && err == nil
	}
	return true, served
}

// start runs both controllers until stop is called or ctx ends; ended is closed then.
func (d *Deployer) start(ctx context.Context) (stop func(), ended <-chan struct{}) {
	ctx, stop = context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		classes := make(chan struct{})
		go func() {
			defer close(classes)
			d.run(ctx, "gatewayclass", reconcile.Func(d.ReconcileClass), d.classSources())
		}()
		d.run(ctx, "gateway", d, d.gatewaySources())
		<-classes
	}()
	return stop, done
}

// run runs a controller until ctx ends. If it ends earlier, for example because a watch is not allowed, it begins again.
func (d *Deployer) run(ctx context.Context, name string, r reconcile.Reconciler, sources []source.Source) {
	for ctx.Err() == nil {
		c, err := controller.NewUnmanaged(name, controller.Options{
			Reconciler: r, MaxConcurrentReconciles: workers, SkipNameValidation: new(true), // one for each time that this replica leads
			Logger: d.opts.Log,
		})
		for _, s := range sources {
			if err == nil {
				err = c.Watch(s)
			}
		}
		if err == nil {
			err = c.Start(ctx)
		}
		if err != nil && ctx.Err() == nil {
			d.opts.Log.Error(err, "trying again", "controller", name)
			select {
			case <-ctx.Done():
			case <-time.After(crdWait):
			}
		}
	}
}

type requests = workqueue.TypedRateLimitingInterface[reconcile.Request]

func (d *Deployer) gatewaySources() []source.Source {
	sources := []source.Source{
		source.Kind[client.Object](d.opts.Cache, &gatewayv1.Gateway{}, &handler.EnqueueRequestForObject{}, changes()),
		source.Kind(d.opts.Cache, client.Object(&gatewayv1.GatewayClass{}), handler.EnqueueRequestsFromMapFunc(d.gatewaysOfClass), changes()),
		source.Func(func(ctx context.Context, queue requests) error {
			d.mu.Lock()
			d.queue = queue
			d.mu.Unlock()
			if d.opts.TrustBundle != nil {
				go d.followBundle(ctx)
			}
			return nil
		}),
	}
	owner := handler.EnqueueRequestForOwner(d.opts.Client.Scheme(), d.opts.Client.RESTMapper(), &gatewayv1.Gateway{}, handler.OnlyControllerOwner())
	for _, k := range kinds {
		sources = append(sources, source.Kind(d.opts.Cache, k.object, owner, changes()))
	}
	return append(sources, source.Kind(d.opts.Cache, kinds[0].object, handler.EnqueueRequestsFromMapFunc(d.gatewaysOfConfigMap)))
}

// changes leaves out events of a status alone.
func changes() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, now := e.ObjectOld, e.ObjectNew
		if before.GetResourceVersion() == now.GetResourceVersion() {
			return false
		}
		return before.GetGeneration() != now.GetGeneration() || now.GetGeneration() == 0 || // which Services lack, for example
			(before.GetDeletionTimestamp() == nil) != (now.GetDeletionTimestamp() == nil) ||
			!equality.Semantic.DeepEqual(before.GetLabels(), now.GetLabels()) ||
			!equality.Semantic.DeepEqual(before.GetAnnotations(), now.GetAnnotations()) ||
			!equality.Semantic.DeepEqual(before.GetOwnerReferences(), now.GetOwnerReferences())
	}}
}

// followBundle looks at all Gateways when the mesh's roots have changed.
func (d *Deployer) followBundle(ctx context.Context) {
	for {
		_, replaced := d.opts.TrustBundle()
		select {
		case <-ctx.Done():
			return
		case <-replaced:
			for _, gateway := range d.gateways(ctx, func(*gatewayv1.Gateway) bool { return true }) {
				d.Check(gateway.NamespacedName)
			}
		}
	}
}

// CacheOptions returns how the cache holds the objects of Gateways: of these kinds, it has no others.
func CacheOptions() map[client.Object]cache.ByObject {
	out := map[client.Object]cache.ByObject{}
	for _, k := range kinds {
		switch k.object.(type) {
		case *corev1.ConfigMap, *corev1.Service: // others' are read, too
		default:
			out[k.object] = cache.ByObject{Label: labels.SelectorFromSet(labels.Set{labelManagedBy: FieldManager})}
		}
	}
	return out
}

// gateways returns the Gateways that match.
func (d *Deployer) gateways(ctx context.Context, match func(*gatewayv1.Gateway) bool) []reconcile.Request {
	return requestsFor(ctx, d, &gatewayv1.GatewayList{}, match)
}

func (d *Deployer) gatewaysOfClass(ctx context.Context, class client.Object) []reconcile.Request {
	return d.gateways(ctx, func(g *gatewayv1.Gateway) bool { return string(g.Spec.GatewayClassName) == class.GetName() })
}

// gatewaysOfConfigMap returns the Gateways whose parameters a ConfigMap has.
func (d *Deployer) gatewaysOfConfigMap(ctx context.Context, object client.Object) []reconcile.Request {
	classes := map[string]bool{}
	for _, class := range d.classesOfConfigMap(ctx, object) {
		classes[class.Name] = true
	}
	return d.gateways(ctx, func(g *gatewayv1.Gateway) bool {
		if classes[string(g.Spec.GatewayClassName)] {
			return true
		}
		return g.Namespace == object.GetNamespace() && g.Spec.Infrastructure != nil && g.Spec.Infrastructure.ParametersRef != nil &&
			g.Spec.Infrastructure.ParametersRef.Name == object.GetName()
	})
}

func (d *Deployer) classSources() []source.Source {
	all := handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, _ client.Object) []reconcile.Request {
		return d.classes(ctx, func(*gatewayv1.GatewayClass) bool { return true })
	})
	return []source.Source{
		source.Kind[client.Object](d.opts.Cache, &gatewayv1.GatewayClass{}, &handler.EnqueueRequestForObject{}),
		source.Kind(d.opts.Cache, kinds[0].object, handler.EnqueueRequestsFromMapFunc(d.classesOfConfigMap)),
		source.Kind(d.opts.Cache, client.Object(kube.CRDMetadata()), all), // their versions
		source.Func(func(_ context.Context, queue requests) error {
			queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: d.opts.Config.Gateways.ClassName}}) // to make it
			return nil
		}),
	}
}

// classes returns the GatewayClasses that match.
func (d *Deployer) classes(ctx context.Context, match func(*gatewayv1.GatewayClass) bool) []reconcile.Request {
	return requestsFor(ctx, d, &gatewayv1.GatewayClassList{}, match)
}

// requestsFor returns the objects of a list's kind that match.
func requestsFor[T client.Object](ctx context.Context, d *Deployer, list client.ObjectList, match func(T) bool) []reconcile.Request {
	var out []reconcile.Request
	err := d.opts.Client.List(ctx, list)
	if err == nil {
		err = meta.EachListItem(list, func(object runtime.Object) error {
			if o := object.(T); match(o) {
				out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(o)})
			}
			return nil
		})
	}
	if err != nil {
		d.opts.Log.Error(err, "list objects", "kind", fmt.Sprintf("%T", list))
		return nil
	}
	return out
}

// classesOfConfigMap returns the GatewayClasses whose parameters a ConfigMap has.
func (d *Deployer) classesOfConfigMap(ctx context.Context, object client.Object) []reconcile.Request {
	return d.classes(ctx, func(c *gatewayv1.GatewayClass) bool {
		ref := c.Spec.ParametersRef
		return ref != nil && ref.Name == object.GetName() && ref.Namespace != nil && string(*ref.Namespace) == object.GetNamespace()
	})
}
