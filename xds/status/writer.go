// Package status writes what Mizzen says of users' routes into their status. The leader alone writes;
// every replica knows what there is to write, so that a new leader goes on at once. It may import
// xds/mesh, xds/kube and controller-runtime's client; no Envoy protos.
package status

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// ControllerName is who we are in the statuses of Gateway API objects.
const ControllerName gatewayv1.GatewayController = config.Group + "/controller"

// workers write at the same time; each has one request under way.
const workers = 4

// writeTimeout bounds one request.
const writeTimeout = 10 * time.Second

// Source is where the objects are read; they are read only.
type Source interface {
	Object(kube.ID) client.Object
	Objects(kind kube.Kind, namespace string) []client.Object
}

// Options of a Writer.
type Options struct {
	Source Source
	// Client writes to the API server.
	Client client.Client
	Log    logr.Logger
	// Registerer for metrics; nil for none.
	Registerer prometheus.Registerer
}

// Writer keeps statuses as they are wanted.
type Writer struct {
	opt    Options
	writes *prometheus.CounterVec

	mu       sync.Mutex
	byParent map[mesh.Key][]kube.ID                        // the routes that each parent has a word for
	wanted   map[kube.ID]map[mesh.Key][]mesh.ParentStatus  // by route and parent
	queue    workqueue.TypedRateLimitingInterface[kube.ID] // nil while another replica leads
}

// New gives a writer that writes while Lead runs.
func New(o Options) *Writer {
	w := &Writer{
		opt: o, byParent: map[mesh.Key][]kube.ID{}, wanted: map[kube.ID]map[mesh.Key][]mesh.ParentStatus{},
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_status_writes_total",
			Help: "Statuses written by this replica, by kind of object and result (ok, conflict, error).",
		}, []string{"kind", "result"}),
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(w.writes)
	}
	return w
}

// Routes takes, for each of these Services, the statuses of all routes that name it as a parent, in place of
// those before.
func (w *Writer) Routes(statuses map[mesh.Key][]mesh.ParentStatus) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for parent, list := range statuses {
		for _, id := range w.byParent[parent] {
			delete(w.wanted[id], parent)
			if len(w.wanted[id]) == 0 {
				delete(w.wanted, id)
			}
			w.enqueue(id)
		}
		delete(w.byParent, parent)
		for _, s := range list {
			id := kube.ID{Kind: kube.Kind(s.Route.Kind), Key: s.Route.Key}
			if w.wanted[id] == nil {
				w.wanted[id] = map[mesh.Key][]mesh.ParentStatus{}
			}
			if w.wanted[id][parent] == nil {
				w.byParent[parent] = append(w.byParent[parent], id)
			}
			w.wanted[id][parent] = append(w.wanted[id][parent], s)
			w.enqueue(id)
		}
	}
}

// Written looks at a status again, since somebody has changed it: us or another.
func (w *Writer) Written(id kube.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.enqueue(id)
}

func (w *Writer) enqueue(id kube.ID) {
	if w.queue != nil {
		w.queue.Add(id)
	}
}

// Lead writes until ctx ends; the statuses of all parents must be known (Routes). It begins with every route: one before us may have left behind what is no
// longer so.
func (w *Writer) Lead(ctx context.Context) {
	queue := workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[kube.ID](100*time.Millisecond, time.Minute))
	for _, kind := range []kube.Kind{kube.HTTPRoute, kube.GRPCRoute} {
		for _, o := range w.opt.Source.Objects(kind, "") {
			queue.Add(kube.ID{Kind: kind, Key: mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()}})
		}
	}
	w.setQueue(queue)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for w.next(ctx, queue) {
			}
		})
	}
	<-ctx.Done()
	w.setQueue(nil)
	queue.ShutDown()
	wg.Wait()
}

func (w *Writer) setQueue(queue workqueue.TypedRateLimitingInterface[kube.ID]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = queue
}

// next takes one object from the queue; false when the queue has ended.
func (w *Writer) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[kube.ID]) bool {
	id, ended := queue.Get()
	if ended {
		return false
	}
	defer queue.Done(id)
	result := "ok"
	switch written, err := w.write(ctx, id); {
	case err == nil || apierrors.IsNotFound(err) || meta.IsNoMatchError(err) || ctx.Err() != nil: // gone, or no longer ours to write
		queue.Forget(id)
		if !written {
			return true
		}
	case apierrors.IsConflict(err): // the object was changed: what is here is old
		result = "conflict"
		queue.AddRateLimited(id)
	default:
		result = "error"
		w.opt.Log.Error(err, "status not written, trying again", "object", id.String())
		queue.AddRateLimited(id)
	}
	w.writes.WithLabelValues(string(id.Kind), result).Inc()
	return true
}

// write brings one status up to date; it reports whether there was something to write.
func (w *Writer) write(ctx context.Context, id kube.ID) (written bool, err error) {
	current := w.opt.Source.Object(id)
	if current == nil {
		return false, nil
	}
	wanted := w.parents(id)
	if slices.ContainsFunc(wanted, func(s mesh.ParentStatus) bool { return s.Generation != current.GetGeneration() }) {
		return false, nil // a change of the object is on its way through the stages; what comes of it follows
	}
	object := current.DeepCopyObject().(client.Object)
	status := routeStatus(object)
	parents := mergeParents(status.Parents, wanted, metav1.Now())
	if equality.Semantic.DeepEqual(parents, status.Parents) {
		return false, nil
	}
	status.Parents = parents
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	return true, w.opt.Client.Status().Update(ctx, object)
}

// parents are the wanted statuses of a route, by parent.
func (w *Writer) parents(id kube.ID) []mesh.ParentStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	byParent := w.wanted[id]
	var out []mesh.ParentStatus
	for _, key := range slices.SortedFunc(maps.Keys(byParent), mesh.Key.Compare) {
		out = append(out, byParent[key]...)
	}
	return out
}

// routeStatus is where a route has its status. It panics on anything that is no route, which is a bug.
func routeStatus(o client.Object) *gatewayv1.RouteStatus {
	switch o := o.(type) {
	case *gatewayv1.HTTPRoute:
		return &o.Status.RouteStatus
	case *gatewayv1.GRPCRoute:
		return &o.Status.RouteStatus
	}
	panic(fmt.Sprintf("status: %T", o))
}
