package kubetest_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/internal/kubetest"
)

func service(name, ip string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{ClusterIP: ip}}
}

func newCluster(t *testing.T) *kubetest.Cluster {
	t.Helper()
	c, err := kubetest.New()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Objects change as the API server lets them.
func TestApply(t *testing.T) {
	c := newCluster(t)
	apply := func(o client.Object) client.Object {
		t.Helper()
		if err := c.Apply(o); err != nil {
			t.Fatal(err)
		}
		now, err := c.Get(o)
		if err != nil {
			t.Fatal(err)
		}
		return now
	}
	first := apply(service("web", "10.0.0.1"))
	if first.GetUID() == "" || first.GetGeneration() != 1 {
		t.Errorf("made: UID %q, generation %d", first.GetUID(), first.GetGeneration())
	}
	if same := apply(service("web", "10.0.0.1")); same.GetResourceVersion() != first.GetResourceVersion() {
		t.Errorf("the same once more is version %s, before %s", same.GetResourceVersion(), first.GetResourceVersion())
	}
	labelled, status := service("web", "10.0.0.1"), service("web", "10.0.0.1")
	labelled.Labels = map[string]string{"a": "b"}
	status.Status.Conditions = []metav1.Condition{{Type: "x"}}
	for name, o := range map[string]client.Object{"label": labelled, "status": status} {
		if now := apply(o); now.GetGeneration() != 1 || now.GetResourceVersion() == first.GetResourceVersion() || now.GetUID() != first.GetUID() {
			t.Errorf("%s: generation %d, version %s, UID %s", name, now.GetGeneration(), now.GetResourceVersion(), now.GetUID())
		}
	}
	if now := apply(service("web", "10.0.0.2")); now.GetGeneration() != 2 {
		t.Errorf("another address: generation %d", now.GetGeneration())
	}
	if err := c.Delete(service("web", ""), service("nothing", "")); err != nil {
		t.Fatal(err)
	}
	if gone, err := c.Get(service("web", "")); gone != nil || err != nil {
		t.Errorf("deleted: %v, %v", gone, err)
	}
	if again := apply(service("web", "10.0.0.1")); again.GetUID() == first.GetUID() || again.GetGeneration() != 1 {
		t.Errorf("made anew: UID %s, generation %d", again.GetUID(), again.GetGeneration())
	}
	if err := c.Apply(&corev1.Event{}); err == nil {
		t.Error("a kind that is not served is taken")
	}
}

// When Heard returns, handlers have seen every change, also slow ones.
func TestHeard(t *testing.T) {
	c := newCluster(t)
	if err := c.Apply(service("first", "10.0.0.1"), service("gone", "10.0.0.2")); err != nil {
		t.Fatal(err)
	}
	if err := c.Delete(service("gone", "")); err != nil { // no list and no watch says so
		t.Fatal(err)
	}
	informers, err := c.Cache()
	if err != nil {
		t.Fatal(err)
	}
	informer, err := informers.GetInformer(t.Context(), &corev1.Service{}, cache.BlockUntilSynced(false))
	if err != nil {
		t.Fatal(err)
	}
	var all []*watched
	for i := range 3 {
		w := &watched{ips: map[string]string{}}
		all = append(all, w)
		if _, err := informer.AddEventHandler(w.handler(func() { time.Sleep(time.Duration(i) * time.Millisecond) })); err != nil { // what is tried is a slow one
			t.Fatal(err)
		}
	}
	go func() { _ = informers.Start(t.Context()) }()
	heard := func(name, want string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := c.Heard(ctx); err != nil {
			t.Fatal(err)
		}
		for i, w := range all {
			if got := w.of(name); got != want {
				t.Errorf("handler %d of %s: %q, want %q", i, name, got, want)
			}
		}
	}
	heard("first", "10.0.0.1")
	heard("gone", "")
	for i := range 50 {
		ip := fmt.Sprintf("10.0.1.%d", i)
		if err := c.Apply(service("first", ip), service("other", ip)); err != nil {
			t.Fatal(err)
		}
		heard("other", ip)
		if err := c.Delete(service("other", "")); err != nil {
			t.Fatal(err)
		}
		heard("other", "gone")
	}
}

// watched has what handlers were told.
type watched struct {
	mu  sync.Mutex
	ips map[string]string
}

func (w *watched) handler(slow func()) toolscache.ResourceEventHandler {
	set := func(x any, ip string) {
		slow()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ips[x.(*corev1.Service).Name] = ip
	}
	return toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(x any) { set(x, x.(*corev1.Service).Spec.ClusterIP) },
		UpdateFunc: func(_, x any) { set(x, x.(*corev1.Service).Spec.ClusterIP) },
		DeleteFunc: func(x any) { set(x, "gone") },
	}
}

func (w *watched) of(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ips[name]
}
