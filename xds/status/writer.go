// Package status writes the conditions of users' routes and policies into their status. Only the leader writes. Every
// replica knows what there is to write, so that a new leader can go on at once. The package may import xds/mesh and
// controller-runtime's client; no Envoy protos.
package status

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/reference"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// ControllerName names Mizzen in the statuses of Gateway API objects.
const ControllerName gatewayv1.GatewayController = config.ControllerName

// kinds are those whose status Mizzen writes.
var kinds = []mesh.Kind{
	mesh.KindHTTPRoute, mesh.KindGRPCRoute, mesh.KindTLSRoute, mesh.KindTCPRoute, mesh.KindUDPRoute, mesh.KindTrafficPolicy, mesh.KindBackendTLSPolicy,
	mesh.KindGateway, mesh.KindListenerSet, mesh.KindAuthorizationPolicy,
}

// workers is how many requests run at the same time.
const workers = 4

// writeTimeout bounds one request.
const writeTimeout = 10 * time.Second

// quietTries is how many writes of one object may fail before a failure is logged as an error.
const quietTries = 4

// Source returns the objects. They are read only.
type Source interface {
	Object(mesh.ID) client.Object
	Objects(kind mesh.Kind, namespace string) []client.Object
}

// Options of a Writer.
type Options struct {
	Source Source
	// Client writes to the API server.
	Client client.Client
	// Events takes a warning for each new fault in a status. Optional.
	Events Events
	Log    logr.Logger
	// Registerer for metrics. Optional.
	Registerer prometheus.Registerer
}

// Events takes warnings: kube.Events.
type Events interface {
	Warn(object corev1.ObjectReference, reason, action, field, what, note string)
}

// Writer keeps the statuses of objects as the Controller wants them.
type Writer struct {
	opt    Options
	writes *prometheus.CounterVec

	mu       sync.Mutex
	byParent map[mesh.ID]map[mesh.ID][]mesh.Status         // by Service or Gateway, the wanted statuses of the objects that name it
	wanted   map[mesh.ID]map[mesh.ID][]mesh.Status         // the same by object, and those of objects that name none
	right    map[mesh.ID]types.UID                         // the objects whose status was as wanted when it was last looked at
	queue    workqueue.TypedRateLimitingInterface[mesh.ID] // nil while another replica leads
}

// New returns a writer that writes while Lead runs.
func New(o Options) *Writer {
	w := &Writer{
		opt: o, byParent: map[mesh.ID]map[mesh.ID][]mesh.Status{}, wanted: map[mesh.ID]map[mesh.ID][]mesh.Status{}, right: map[mesh.ID]types.UID{},
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

// Set replaces, for each of these Services and Gateways, the wanted statuses of all objects that name it. Objects whose status is
// as it is wanted, and was before, are not looked at again: a Gateway may have thousands.
func (w *Writer) Set(statuses map[mesh.ID][]mesh.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for parent, list := range statuses {
		next := map[mesh.ID][]mesh.Status{}
		for _, s := range list {
			next[s.Object] = append(next[s.Object], s)
		}
		for id := range w.byParent[parent] {
			if next[id] == nil {
				delete(w.wanted[id], parent)
				if len(w.wanted[id]) == 0 {
					delete(w.wanted, id)
				}
				w.enqueue(id)
			}
		}
		w.byParent[parent] = next
		if len(next) == 0 {
			delete(w.byParent, parent)
		}
		for id, of := range next {
			if w.wanted[id] == nil {
				w.wanted[id] = map[mesh.ID][]mesh.Status{}
			}
			same := reflect.DeepEqual(w.wanted[id][parent], of)
			w.wanted[id][parent] = of
			if !same || !w.isRight(id) {
				w.enqueue(id)
			}
		}
	}
}

// isRight reports whether the status of the object that there is now under a name has been found or made right. It may be another
// object than before.
func (w *Writer) isRight(id mesh.ID) bool {
	if w.queue == nil {
		return true // nobody would look
	}
	uid, ok := w.right[id]
	o := w.opt.Source.Object(id)
	return ok && o != nil && o.GetUID() == uid
}

// SetWhole replaces the wanted statuses of objects that name no Service.
func (w *Writer) SetWhole(statuses []mesh.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range statuses {
		w.wanted[s.Object] = map[mesh.ID][]mesh.Status{{}: {s}}
		w.enqueue(s.Object)
	}
}

// Forget drops the wanted status of a deleted object.
func (w *Writer) Forget(id mesh.ID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.wanted, id)
	delete(w.right, id)
}

// Written checks a status again, because Mizzen or another writer has changed it. Statuses of other kinds are not ours: those of
// GatewayClasses, for example.
func (w *Writer) Written(id mesh.ID) {
	if !slices.Contains(kinds, id.Kind) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.enqueue(id)
}

func (w *Writer) enqueue(id mesh.ID) {
	if w.queue != nil {
		w.queue.Add(id)
	}
}

// Lead writes until ctx ends. The wanted statuses of all objects must be known before (Set). It begins with all objects,
// because the previous leader may have left outdated statuses.
func (w *Writer) Lead(ctx context.Context) {
	queue := workqueue.NewTypedRateLimitingQueue(
		workqueue.NewTypedItemExponentialFailureRateLimiter[mesh.ID](100*time.Millisecond, time.Minute))
	w.setQueue(queue) // before the objects are listed, so that no change between is missed
	for _, kind := range kinds {
		for _, o := range w.opt.Source.Objects(kind, "") {
			queue.Add(mesh.ID{Kind: kind, Key: mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()}})
		}
	}
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

func (w *Writer) setQueue(queue workqueue.TypedRateLimitingInterface[mesh.ID]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = queue
}

// next handles one object of the queue. It reports false when the queue was shut down.
func (w *Writer) next(ctx context.Context, queue workqueue.TypedRateLimitingInterface[mesh.ID]) bool {
	id, ended := queue.Get()
	if ended {
		return false
	}
	defer queue.Done(id)
	result := "ok"
	switch written, err := w.write(ctx, id); {
	case err == nil || apierrors.IsNotFound(err) || meta.IsNoMatchError(err) || ctx.Err() != nil: // written, deleted, or we no longer lead
		queue.Forget(id)
		if !written {
			return true
		}
	case apierrors.IsConflict(err): // our copy of the object is outdated
		result = "conflict"
		queue.AddRateLimited(id)
	default:
		result = "error"
		// The API server refuses writes for a moment when a CRD is new. Only failures that last are errors.
		if queue.NumRequeues(id) < quietTries {
			w.opt.Log.V(1).Info("cannot write the status yet, trying again", "object", id.String(), "error", err.Error())
		} else {
			w.opt.Log.Error(err, "cannot write the status, trying again", "object", id.String())
		}
		queue.AddRateLimited(id)
	}
	w.writes.WithLabelValues(string(id.Kind), result).Inc()
	return true
}

// write brings one status up to date, and reports whether it wrote.
func (w *Writer) write(ctx context.Context, id mesh.ID) (written bool, err error) {
	current := w.opt.Source.Object(id)
	wanted := w.look(id)
	if current == nil {
		return false, nil
	}
	if slices.ContainsFunc(wanted, func(s mesh.Status) bool { return s.Generation != current.GetGeneration() }) {
		return false, nil // the object has changed since, and its new status will follow
	}
	object := current.DeepCopyObject().(client.Object)
	if !say(object, wanted, metav1.Now()) {
		w.found(id, current.GetUID())
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if err := w.opt.Client.Status().Update(ctx, object); err != nil {
		return true, err
	}
	w.found(id, current.GetUID())
	w.warn(current, wanted)
	return true, nil
}

// warn writes an event for each fault of an object that its status did not have before.
func (w *Writer) warn(before client.Object, wanted []mesh.Status) {
	if w.opt.Events == nil {
		return
	}
	object, err := reference.GetReference(w.opt.Client.Scheme(), before)
	if err != nil {
		w.opt.Log.Error(err, "no events on an object of an unknown kind", "object", client.ObjectKeyFromObject(before).String())
		return
	}
	for _, s := range wanted {
		for _, c := range s.Conditions {
			if c.Bad() && !told(before, s, c) {
				// With the parent, because several parents may have the same fault.
				field := fmt.Sprintf("status[%s].%s", s.Ref.Name, c.Type)
				w.opt.Events.Warn(*object, string(c.Reason), "SetStatus", field, c.Message, c.Message)
			}
		}
	}
}

// look returns the wanted statuses of an object that is about to be looked at.
func (w *Writer) look(id mesh.ID) []mesh.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.right, id)
	var out []mesh.Status
	for _, parent := range slices.SortedFunc(maps.Keys(w.wanted[id]), mesh.ID.Compare) {
		out = append(out, w.wanted[id][parent]...)
	}
	return out
}

// found notes that the status of an object is as was wanted when it was looked at.
func (w *Writer) found(id mesh.ID, uid types.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.right[id] = uid
}
