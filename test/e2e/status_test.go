package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// mizzenctl status calls a mesh well, and names what is not: pods without the sidecar that they should have, and a control
// plane that is away.
func TestStatus(t *testing.T) {
	alone(t)
	if withoutMesh {
		t.Skip("there is no mesh")
	}
	e := newEnv(t, true)
	run := e.mizzenctl()
	type check struct {
		Name, State, Text string
		Details           []struct{ State, Object, Text string }
	}
	status := func() (map[string]check, int) {
		t.Helper()
		out, code, err := run("status", "-o", "json")
		var got struct{ Checks []check }
		if json.Unmarshal([]byte(out), &got) != nil {
			t.Fatalf("%q, %v", out, err)
		}
		byName := map[string]check{}
		for _, c := range got.Checks {
			byName[c.Name] = c
		}
		return byName, code
	}
	number := func(c check) (n int) {
		t.Helper()
		if _, err := fmt.Sscan(c.Text, &n); err != nil {
			t.Fatalf("%+v: %v", c, err)
		}
		return n
	}
	if out, code, err := run("install-check"); err != nil || code != 0 {
		t.Errorf("install-check: exit code %d, %v\n%s", code, err, out)
	}
	before, _ := status()
	pods, proxies := number(before["pods"])+2, number(before["proxies"])+2
	e.server("server", 2)
	e.ready("server")
	e.eventually(time.Minute, func() (string, error) {
		got, code := status()
		for name, c := range got {
			if c.State != "ok" {
				return fmt.Sprintf("%s: %+v", name, c), nil
			}
		}
		if code != 0 || len(got) < 8 || got["proxies"].Text != fmt.Sprintf("%d connected, %[1]d in sync", proxies) || got["pods"].Text != fmt.Sprintf("%d with a sidecar", pods) {
			return fmt.Sprintf("all is well: %d, %+v", code, got), nil
		}
		return "", nil
	})

	late := newEnv(t, false)
	bare := late.pod("bare", serverPod("server"))
	late.create(bare)
	ns, err := e.CoreV1().Namespaces().Get(e.ctx, late.ns, metav1.GetOptions{})
	e.must(err)
	ns.Labels[config.LabelInjection] = config.InjectionEnabled
	_, err = e.CoreV1().Namespaces().Update(e.ctx, ns, metav1.UpdateOptions{})
	e.must(err)
	e.eventually(time.Minute, func() (string, error) {
		got, code := status()
		pods := got["pods"]
		if code != 0 || pods.State != "warning" || len(pods.Details) != 1 || pods.Details[0].Object != "namespace "+late.ns {
			return fmt.Sprintf("a pod without its sidecar: %d, %+v", code, pods), nil
		}
		return "", nil
	})

	replicas := e.scaleControlPlane(nil)
	t.Cleanup(func() { restoreControlPlane(t, replicas) })
	e.eventually(time.Minute, func() (string, error) {
		got, code := status()
		if c := got["control plane"]; code != 2 || c.State != "error" || got["proxies"].State != "unknown" {
			return fmt.Sprintf("no control plane: %d, %+v", code, got), nil
		}
		return "", nil
	})
}
