package status

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// api is an API server in memory that counts and may refuse writes, and the source that reads from it.
type api struct {
	client.Client
	mu     sync.Mutex
	writes int
	refuse []error // of the next writes
}

func newAPI(t *testing.T, objects ...client.Object) *api {
	t.Helper()
	a := &api{}
	a.Client = fake.NewClientBuilder().WithScheme(kubescheme.New()).WithObjects(objects...).WithStatusSubresource(objects...).
		WithInterceptorFuncs(interceptor.Funcs{SubResourceUpdate: a.update}).Build()
	return a
}

func (a *api) update(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.writes++
	if len(a.refuse) > 0 {
		err := a.refuse[0]
		a.refuse = a.refuse[1:]
		return err
	}
	return c.SubResource(sub).Update(ctx, o, opts...)
}

func (a *api) Object(id mesh.ID) client.Object {
	o := &gatewayv1.HTTPRoute{}
	if err := a.Get(context.Background(), client.ObjectKey{Namespace: id.Namespace, Name: id.Name}, o); err != nil {
		return nil
	}
	return o
}

func (a *api) Objects(kind mesh.Kind, _ string) []client.Object {
	var list gatewayv1.HTTPRouteList
	if err := a.List(context.Background(), &list); err != nil || kind != mesh.KindHTTPRoute {
		return nil
	}
	var out []client.Object
	for i := range list.Items {
		out = append(out, &list.Items[i])
	}
	return out
}

func (a *api) written() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writes
}

// whileListed is a source of which somebody says something while its objects are listed.
type whileListed struct {
	*api
	then func()
}

func (l *whileListed) Objects(mesh.Kind, string) []client.Object {
	l.then()
	return nil
}

// An object that comes while a new leader lists what there is has its status written.
func TestObjectThatComesWhileALeaderBegins(t *testing.T) {
	a := newAPI(t, route())
	var w *Writer
	w = New(Options{Source: &whileListed{a, func() { w.Set(statuses(2, true)) }}, Client: a.Client, Log: logr.Discard()})
	lead(t, w)
	await(t, "the status", func() bool { return a.written() == 1 })
}

// A status of a kind that is not ours may change as it likes.
func TestStatusesOfOthers(t *testing.T) {
	a := newAPI(t, route())
	w := New(Options{Source: a, Client: a.Client, Log: logr.Discard()})
	w.Set(statuses(2, true))
	lead(t, w)
	await(t, "the status", func() bool { return a.written() == 1 })
	w.Written(mesh.ID{Kind: mesh.KindGatewayClass, Key: mesh.Key{Name: "mizzen"}})
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.queue.Len(); n > 0 {
		t.Errorf("%d objects are to be written", n)
	}
}

// Of thousands of routes of a Gateway those are looked at again whose status shall be another one, or that are others under the same name.
func TestUnchanged(t *testing.T) {
	o := route()
	o.UID = "first"
	a := newAPI(t, o)
	w := New(Options{Source: a, Client: a, Log: logr.Discard()})
	w.Set(statuses(2, true))
	lead(t, w)
	await(t, "the status", a.accepted(metav1.ConditionTrue))
	looked := func() (waiting int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.right) == 0 {
			return 1
		}
		return w.queue.Len()
	}
	await(t, "the end of the write", func() bool { return looked() == 0 })

	w.mu.Lock()
	queue := w.queue
	w.queue = &neverAdds{queue, t}
	w.mu.Unlock()
	w.Set(statuses(2, true))
	w.setQueue(queue)

	if err := a.Delete(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o = route()
	o.UID = "second"
	if err := a.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	w.Set(statuses(2, true))
	await(t, "the status of the new object", a.accepted(metav1.ConditionTrue))
}

// neverAdds is a queue to which nothing may be added.
type neverAdds struct {
	workqueue.TypedRateLimitingInterface[mesh.ID]
	t *testing.T
}

func (n *neverAdds) Add(id mesh.ID) { n.t.Errorf("%s is looked at again", id) }

var web = mesh.ID{Kind: mesh.KindService, Key: mesh.Key{Namespace: "shop", Name: "web"}}

func route(parents ...gatewayv1.RouteParentStatus) *gatewayv1.HTTPRoute {
	return &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "r", Generation: 2},
		Status:     gatewayv1.HTTPRouteStatus{RouteStatus: gatewayv1.RouteStatus{Parents: parents}},
	}
}

// statuses say of route r what parent web thinks.
func statuses(generation int64, accepted bool) map[mesh.ID][]mesh.Status {
	s := want(generation, accepted)
	s.Object = mesh.ID{Kind: mesh.KindHTTPRoute, Key: mesh.Key{Namespace: "shop", Name: "r"}}
	return map[mesh.ID][]mesh.Status{web: {s}}
}

// lead lets the writer write until the test, or the function that it gives, ends it.
func lead(t *testing.T, w *Writer) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { w.Lead(ctx); close(ended) }()
	stop = func() { cancel(); <-ended }
	t.Cleanup(stop)
	return stop
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 2*time.Millisecond, 10*time.Second, true,
		func(context.Context) (bool, error) { return condition(), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func (a *api) parents() []gatewayv1.RouteParentStatus {
	o := a.Object(mesh.ID{Kind: mesh.KindHTTPRoute, Key: mesh.Key{Namespace: "shop", Name: "r"}})
	return o.(*gatewayv1.HTTPRoute).Status.Parents
}

func (a *api) accepted(status metav1.ConditionStatus) func() bool {
	return func() bool {
		p := a.parents()
		return len(p) == 1 && len(p[0].Conditions) == 1 && p[0].Conditions[0].Status == status
	}
}

func TestWriter(t *testing.T) {
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "httproutes"}, "r", errors.New("changed"))
	a := newAPI(t, route())
	a.refuse = []error{conflict, errors.New("no connection")}
	w := New(Options{Source: a, Client: a, Log: logr.Discard()})
	w.Set(statuses(2, true)) // before it leads
	if n := a.written(); n != 0 {
		t.Fatalf("%d writes of a replica that does not lead", n)
	}
	stop := lead(t, w)
	await(t, "written after a conflict and an error", a.accepted(metav1.ConditionTrue))

	w.Set(statuses(2, false))
	await(t, "a change", a.accepted(metav1.ConditionFalse))

	o := route()
	if err := a.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		t.Fatal(err)
	}
	o.Status.Parents = nil
	if err := a.Status().Update(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	w.Written(mesh.ID{Kind: mesh.KindHTTPRoute, Key: mesh.Key{Namespace: "shop", Name: "r"}})
	await(t, "restored after another took it away", a.accepted(metav1.ConditionFalse))

	w.Set(map[mesh.ID][]mesh.Status{web: nil})
	await(t, "taken away with the parent", func() bool { return len(a.parents()) == 0 })

	stop()
	writes := a.written()
	w.Set(statuses(2, true))
	if a.accepted(metav1.ConditionTrue)() || a.written() != writes {
		t.Error("written after the end of leadership")
	}
}

// A new leader takes away what is no longer so, and writes nothing where all is as it should be.
func TestNewLeader(t *testing.T) {
	for name, test := range map[string]struct {
		current []gatewayv1.RouteParentStatus
		wanted  map[mesh.ID][]mesh.Status
		entries int
		writes  int
	}{
		"left behind": {current: []gatewayv1.RouteParentStatus{parent("old", ControllerName), parent("web", "other.example/c")}, entries: 1, writes: 1},
		"as it should be": {
			current: []gatewayv1.RouteParentStatus{parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 2, before))},
			wanted:  statuses(2, true), entries: 1,
		},
		"of an older generation": { // what is said of the new one follows
			wanted: statuses(1, true),
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t, route(test.current...))
			w := New(Options{Source: a, Client: a, Log: logr.Discard()})
			if test.wanted != nil {
				w.Set(test.wanted)
			}
			w.sweep(t.Context())
			if got := a.parents(); len(got) != test.entries || a.written() != test.writes {
				t.Errorf("%d entries after %d writes, want %d after %d: %v", len(got), a.written(), test.entries, test.writes, got)
			}
		})
	}
}

// sweep is one look at every object.
func (w *Writer) sweep(ctx context.Context) {
	for _, o := range w.opt.Source.Objects(mesh.KindHTTPRoute, "") {
		if _, err := w.write(ctx, mesh.ID{Kind: mesh.KindHTTPRoute, Key: mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()}}); err != nil {
			panic(err)
		}
	}
}
