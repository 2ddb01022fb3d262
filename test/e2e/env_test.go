package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

const (
	// runLabel marks the namespaces of the tests, so that a later run can clear them away.
	runLabel = "mizzen-e2e-run"
	// readyTimeout is for pods to get ready on a small machine with much else to start.
	readyTimeout = 3 * time.Minute
)

// env is one namespace of one test.
type env struct {
	*testing.T
	*cluster.Cluster
	ctx context.Context
	ns  string
	// meshed says that the namespace is labelled.
	meshed bool
}

// newEnv makes a namespace that goes away with the test; if the test failed, what can be known about
// it is logged first.
func newEnv(t *testing.T, meshed bool) *env {
	t.Helper()
	meshed = meshed && !withoutMesh
	e := &env{T: t, Cluster: mesh, ctx: t.Context(), ns: fmt.Sprintf("e2e-%06x", rand.IntN(1<<24)), meshed: meshed}
	labels := map[string]string{runLabel: "true"}
	if meshed {
		labels[config.LabelInjection] = "enabled"
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: e.ns, Labels: labels}}
	_, err := mesh.CoreV1().Namespaces().Create(e.ctx, ns, metav1.CreateOptions{})
	e.must(err)
	t.Cleanup(func() {
		if t.Failed() {
			ctx, cancel := context.WithTimeout(context.Background(), dumpTimeout)
			t.Log(dump(ctx, e.ns))
			cancel()
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := mesh.CoreV1().Namespaces().Delete(ctx, e.ns, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("delete namespace %s: %v", e.ns, err)
		}
	})
	// Pods wait for the namespace's service account, which the controller manager makes.
	e.eventually(30*time.Second, func() (string, error) {
		_, err := mesh.CoreV1().ServiceAccounts(e.ns).Get(e.ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "service account default", nil
		}
		return "", err
	})
	return e
}

// kind of the environment, for messages.
func (e *env) kind() string {
	if e.meshed {
		return "meshed"
	}
	return "plain"
}

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// eventually fails the test unless f says in time that nothing is missing.
func (e *env) eventually(timeout time.Duration, f func() (missing string, err error)) {
	e.Helper()
	e.must(cluster.Poll(e.ctx, timeout, func(context.Context) (string, error) { return f() }))
}

// call makes one call from a pod.
func (e *env) call(from cluster.Pod, c api.Call) api.Answer {
	e.Helper()
	var a api.Answer
	e.must(e.JSON(e.ctx, "POST", from, api.ControlPort, "/call", c, &a))
	return a
}

// load is a load that runs in a pod.
type load struct {
	e     *env
	path  string
	from  cluster.Pod
	rate  float64
	began time.Time
}

func (e *env) startLoad(from cluster.Pod, l api.Load) *load {
	e.Helper()
	var id int
	e.must(e.JSON(e.ctx, "POST", from, api.ControlPort, "/load", l, &id))
	return &load{e: e, from: from, path: fmt.Sprintf("/load/%d", id), rate: l.Rate, began: time.Now()}
}

// result gives the figures so far.
func (l *load) result() api.Result {
	l.e.Helper()
	var r api.Result
	l.e.must(l.e.JSON(l.e.ctx, "GET", l.from, api.ControlPort, l.path, nil, &r))
	return r
}

// wait waits for the end of a load that has one.
func (l *load) wait(timeout time.Duration) api.Result {
	l.e.Helper()
	var r api.Result
	l.e.eventually(timeout, func() (string, error) {
		r = l.result()
		if !r.Done {
			return fmt.Sprintf("%d calls done, %d failed, %d in flight", r.Calls, r.Failed, r.InFlight), nil
		}
		return "", nil
	})
	return r
}

// stop ends a load and gives its figures, calls in flight included.
func (l *load) stop() api.Result {
	l.e.Helper()
	// Asking twice is asking once. The API server may have kept a connection from before the pod was strict, which ends
	// with its next bytes.
	l.e.eventually(30*time.Second, func() (string, error) {
		if err := l.e.JSON(l.e.ctx, "POST", l.from, api.ControlPort, l.path+"/stop", nil, nil); err != nil {
			return "the end of the load: " + err.Error(), nil //nolint:nilerr // it may go away
		}
		return "", nil
	})
	return l.wait(30 * time.Second)
}

// failures is a digest of what went wrong in a load.
func failures(r api.Result) string {
	counts := map[string]int{}
	for _, f := range r.Failures {
		counts[f.Error]++
	}
	s := fmt.Sprintf("%d of %d calls failed", r.Failed, r.Calls)
	for text, n := range counts {
		s += fmt.Sprintf("\n  %d× %s", n, text)
	}
	if n := len(r.Failures); n > 0 {
		s += fmt.Sprintf("\n  first at %s, last kept at %s after the start", r.Failures[0].At.Sub(r.Start).Round(time.Millisecond), r.Failures[n-1].At.Sub(r.Start).Round(time.Millisecond))
	}
	return s
}

// noFailures asserts that a load of at least some calls went through whole.
func (e *env) noFailures(what string, r api.Result, atLeast int) {
	e.Helper()
	figure(e.T, what, fmt.Sprintf("%d of %d calls failed, p50 %s, p99 %s", r.Failed, r.Calls, r.P50.Round(10*time.Microsecond), r.P99.Round(10*time.Microsecond)), "0 failed")
	if r.Failed > 0 {
		e.Errorf("%s: %s", what, failures(r))
	}
	if r.Calls < atLeast {
		e.Errorf("%s: only %d calls were made, want at least %d: the load itself did not keep up", what, r.Calls, atLeast)
	}
}

// noFailures stops a load with a rate and asserts that it went through whole, and kept up with at least 60 % of its rate: beside what
// some tests do, a machine with two cores has not always CPU for it.
func (l *load) noFailures(what string) {
	l.e.Helper()
	atLeast := int(0.6 * l.rate * time.Since(l.began).Seconds())
	l.e.noFailures(what, l.stop(), atLeast)
}

// sweep deletes what killed runs left behind, and waits for it: its pods would take room.
func sweep(ctx context.Context) error {
	if err := returnNodes(ctx); err != nil {
		return err
	}
	list, err := mesh.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: runLabel})
	if err != nil {
		return err
	}
	for _, ns := range list.Items {
		if err := mesh.CoreV1().Namespaces().Delete(ctx, ns.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return err
		}
	}
	for _, ns := range list.Items {
		if err := mesh.WaitNoNamespace(ctx, ns.Name, 2*time.Minute); err != nil {
			return err
		}
	}
	return nil
}

// polled is eventually for other goroutines than the test's: it returns the error.
func (e *env) polled(timeout time.Duration, f func() (missing string, err error)) error {
	return cluster.Poll(e.ctx, timeout, func(context.Context) (string, error) { return f() })
}

// executed is a condition: the pods of the server have carried out at least n calls together.
func (e *env) executed(n int) func() (string, error) {
	pods := e.podsOf("server")
	return func() (string, error) {
		sum := 0
		for _, p := range pods {
			var executed int
			if err := e.JSON(e.ctx, "GET", p, api.ControlPort, "/executed", nil, &executed); err != nil {
				return "", err
			}
			sum += executed
		}
		if sum < n {
			return fmt.Sprintf("%s: %d of %d calls carried out", "server", sum, n), nil
		}
		return "", nil
	}
}

// reachable waits until a call from a pod goes through: right after pods get ready, a moment passes until
// kube-proxy or the mesh has heard of them, which is not what most tests are about.
func (e *env) reachable(from cluster.Pod, calls ...api.Call) {
	e.Helper()
	for _, c := range calls {
		e.eventually(30*time.Second, func() (string, error) {
			var a api.Answer
			if err := e.JSON(e.ctx, "POST", from, api.ControlPort, "/call", c, &a); err != nil {
				return err.Error(), nil //nolint:nilerr // a pod without probes, as a copy is, is ready before its application listens
			}
			if !a.OK {
				return fmt.Sprintf("%s %s: %s", c.Kind, c.Target, a.Error), nil
			}
			return "", nil
		})
	}
}
