package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// The API server stops answering: the control plane serves what it has, stays ready and says what is
// wrong; when the API server is back, it catches up. Nothing that was known is dropped.
func TestAPIServerOutage(t *testing.T) {
	alone(t)
	e := newEnv(t, true)
	pid := e.process("kube-apiserver", "stops the API server's process")
	e.server("server", 2)
	client := e.client()
	e.ready("server")
	e.reachable(client, grpcCall)
	replicas := e.controlPlaneAddresses()
	running := e.startLoad(client, api.Load{Call: grpcCall, Rate: 100})
	e.must(e.polled(10*time.Second, e.executed(100)))

	e.must(syscall.Kill(pid, syscall.SIGSTOP))
	stopped := time.Now()
	resume := func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	t.Cleanup(resume)
	// Straight to the pods: nothing else works now.
	for _, addr := range replicas {
		e.eventually(30*time.Second, func() (string, error) {
			ready, err := fetch(addr + "/readyz")
			if err != nil {
				return err.Error(), nil //nolint:nilerr // it may go away
			}
			metrics, err := fetch(addr + "/metrics")
			if err != nil {
				return err.Error(), nil //nolint:nilerr // it may go away
			}
			if !strings.Contains(ready, "200 OK") || !strings.Contains(ready, "[!] kubernetes-api") {
				return "readiness with a word about the API server: " + ready, nil
			}
			if !strings.Contains(metrics, "mizzen_kubernetes_api_up 0\n") {
				return "mizzen_kubernetes_api_up 0", nil
			}
			return "", nil
		})
	}
	resume()
	e.must(e.WaitAPI(e.ctx, time.Minute))
	t.Logf("the API server was away for %s", time.Since(stopped).Round(time.Second))

	before := len(running.result().Pods)
	e.must(e.Scale(e.ctx, e.ns, "server", 3))
	e.eventually(readyTimeout, func() (string, error) {
		if n := len(running.result().Pods); n <= before {
			return fmt.Sprintf("calls to a pod that came after the outage: %d pods called", n), nil
		}
		return "", nil
	})
	running.noFailures("calls while the API server was away and after")
}

// process finds a component of the embedded cluster's node; no other cluster's can be reached so. why says what
// for, where the test is skipped.
func (e *env) process(component, why string) int {
	e.Helper()
	if e.Kubeconfig != filepath.Join(e.Root, ".cluster", "kubeconfig") {
		e.Skip(why + ", which only the embedded cluster allows")
	}
	pid, err := e.Component(e.ctx, component)
	e.must(err)
	return pid
}

// controlPlaneAddresses are the base URLs of every replica's status server.
func (e *env) controlPlaneAddresses() []string {
	e.Helper()
	pods, err := e.CoreV1().Pods(cluster.SystemNamespace).List(e.ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=mizzen-controller"})
	e.must(err)
	var out []string
	for _, p := range pods.Items {
		if p.Status.PodIP != "" && p.DeletionTimestamp == nil {
			out = append(out, "http://"+net.JoinHostPort(p.Status.PodIP, strconv.Itoa(config.ControllerHTTPPort)))
		}
	}
	if len(out) == 0 {
		e.Fatal("no replica of the control plane")
	}
	return out
}

// fetch gives status and body.
func fetch(url string) (string, error) {
	res, err := (&http.Client{Timeout: 5 * time.Second}).Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.Status + "\n" + string(b), err
}
