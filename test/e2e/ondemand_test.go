package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// onDemandTimeout is short enough to wait for, and longer than a proxy takes to come back.
const onDemandTimeout = 8 * time.Second

// Config on demand: a sidecar holds what its application has called, a new pod of a workload has what the
// others use whichever replica it comes to, and without a control plane what was used goes on, while
// what was never used is answered in time.
func TestOnDemand(t *testing.T) {
	alone(t, "mesh.onDemand.wholeMesh=0", "mesh.onDemand.namespace=0", "mesh.onDemand.timeout="+onDemandTimeout.String())
	e := newEnv(t, true)
	e.server("server", 2)
	for _, name := range []string{"second", "third", "fourth"} {
		e.service(name, "server", port("http", httpPort))
	}
	e.service("opaque", "server", portTo("tcp", 9000, intstr.FromInt(httpPort)))
	e.deploy("caller", 1, serverPod("server"))
	e.ready("server", "caller")
	caller := e.podsOf("caller")[0]

	idle := e.holds(caller)
	base := idle["Cluster"].Sent
	if base == 0 || idle["RouteConfiguration"].Sent != 0 || idle["ScopedRouteConfiguration"].Sent != 1 {
		t.Errorf("a sidecar that has called nothing holds %+v, want some clusters and the one scope that everybody has", idle)
	}
	calls := map[string]api.Call{
		"HTTP":   httpCall,
		"gRPC":   grpcCall,
		"opaque": {Kind: api.HTTP, Target: "http://opaque:9000/"},
	}
	for name, c := range calls {
		first, second := e.call(caller, c), e.call(caller, c)
		if !first.OK || !second.OK {
			t.Errorf("%s: first call %+v, second %+v", name, first, second)
		}
		figure(t, name+": first call to a Service, and the second", fmt.Sprintf("%s, %s", first.Elapsed.Round(100*time.Microsecond), second.Elapsed.Round(100*time.Microsecond)), "")
	}
	// The calls through routes brought a cluster and a route each, the opaque one a cluster.
	if got := e.holds(caller); got["Cluster"].Sent != base+3 || got["RouteConfiguration"].Sent != 2 {
		t.Errorf("after calls to three ports the sidecar holds %+v, want %d clusters and 2 routes", got, base+3)
	}

	// Three more pods come to both replicas.
	e.must(e.Scale(e.ctx, e.ns, "caller", 4))
	e.ready("caller")
	for _, p := range e.podsOf("caller") {
		if got := e.holds(p); got["Cluster"].Sent != base+3 || got["RouteConfiguration"].Sent != 2 {
			t.Errorf("%s, a new pod of the workload, holds %+v, want %d clusters and 2 routes", p.Name, got, base+3)
		}
	}

	replicas := e.scaleControlPlane(nil)
	t.Cleanup(func() { restoreControlPlane(t, replicas) })
	for _, p := range e.podsOf("caller") {
		for name, c := range calls {
			if a := e.call(p, c); !a.OK {
				t.Errorf("%s without a control plane, from %s: %s", name, p.Name, a.Error)
			}
		}
	}
	a := e.call(caller, api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://second:%d/", httpPort), Timeout: 3 * onDemandTimeout})
	figure(t, "a Service never used, without a control plane", fmt.Sprintf("%d after %s", a.Status, a.Elapsed.Round(10*time.Millisecond)), "503 after "+onDemandTimeout.String())
	if a.Status != 503 || !strings.Contains(a.Error+a.Text, "control plane") || (a.Elapsed-onDemandTimeout).Abs() > time.Second {
		t.Errorf("got %+v, want 503 after %s that says why", a, onDemandTimeout)
	}
	// One that is waiting when the control plane returns is served; one tried again until then is too.
	served := make(chan error, 1)
	go func() {
		c := api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://third:%d/", httpPort), Timeout: 3 * onDemandTimeout}
		for {
			var a api.Answer
			err := e.JSON(e.ctx, "POST", caller, api.ControlPort, "/call", c, &a)
			if err == nil && !a.OK && a.Status != 503 {
				err = fmt.Errorf("%+v", a)
			}
			if err != nil || a.OK {
				served <- err
				return
			}
		}
	}()
	e.scaleControlPlane(replicas)
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("a call during the return of the control plane: %v", err)
		}
	case <-time.After(readyTimeout):
		t.Error("no answer after the control plane returned")
	}
	// Now it is asked with versions: what is held is held, and what is new comes.
	if a := e.call(caller, api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://fourth:%d/", httpPort)}); !a.OK {
		t.Errorf("a first call after the return of the control plane: %+v", a)
	}
}

// The annotation decides for one pod, whatever the mesh does.
func TestConfigScope(t *testing.T) {
	beside(t)
	e := newEnv(t, true)
	e.server("server", 1)
	for _, scope := range fixed.ConfigScopes {
		p := e.pod("scope-"+scope, serverPod("server"))
		p.Annotations = map[string]string{config.AnnotationConfigScope: scope}
		e.create(p)
	}
	e.ready("server")
	held := map[string]int{}
	for _, scope := range fixed.ConfigScopes {
		p := cluster.Pod{Namespace: e.ns, Name: "scope-" + scope}
		e.must(e.WaitPodReady(e.ctx, p, readyTimeout))
		held[scope] = e.holds(p)["RouteConfiguration"].Sent
	}
	// The namespace has two HTTP ports; the cluster has at least the control plane's besides.
	if held[config.ScopeDemand] != 0 || held[config.ScopeNamespace] != 2 || held[config.ScopeAll] <= 2 {
		t.Errorf("route configurations held at start, by scope: %v; want demand 0, namespace 2, all more", held)
	}
}

// holds gives what the control plane has sent to a pod's sidecar, by type.
func (e *env) holds(pod cluster.Pod) map[string]server.TypeStatus {
	e.Helper()
	return e.proxy(pod).Types
}

// proxy gives what the control plane knows of a pod's sidecar.
func (e *env) proxy(pod cluster.Pod) server.ProxyStatus {
	e.Helper()
	var found server.ProxyStatus
	e.eventually(30*time.Second, func() (string, error) {
		controllers, err := e.Pods(e.ctx, cluster.SystemNamespace, "")
		if err != nil {
			return "", err
		}
		for _, c := range controllers {
			if c.Status.Phase != corev1.PodRunning {
				continue
			}
			var proxies []server.ProxyStatus
			p := cluster.Pod{Namespace: c.Namespace, Name: c.Name}
			page, err := e.Debug(e.ctx, p, config.ControllerHTTPPort, "/debug/proxies")
			if err == nil {
				err = json.Unmarshal(page, &proxies)
			}
			if err != nil {
				return err.Error(), nil //nolint:nilerr // on its way down
			}
			for _, status := range proxies {
				if status.Proxy == pod.Namespace+"/"+pod.Name {
					found = status
					return "", nil
				}
			}
		}
		return "connection of " + pod.Name, nil
	})
	return found
}
