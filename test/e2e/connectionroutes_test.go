package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// connectionRoute is a TCPRoute or a TLSRoute on a port of the Service "server".
func connectionRoute(kind, name string, port int, hostnames, backends string) string {
	if hostnames != "" {
		hostnames = "\n  hostnames: [" + hostnames + "]"
	}
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: %s
metadata: {name: %s}
spec:
  parentRefs: [%s]%s
  rules: [{backendRefs: [%s]}]
`, kind, name, parentRef(port), hostnames, backends)
}

// A TCPRoute shares connections by weight, a TLSRoute by the name that the client asks for, both with mTLS between the
// sidecars. What is wrong with a route is in its status, and in an event with the same words.
func TestConnectionRoutes(t *testing.T) {
	alone(t)
	e := newRouteEnv(t)
	const shares, names = 8443, 8444
	for _, name := range []string{"v1", "v2"} {
		e.deploy(name, 1, serverPod("server", "--tls=:8443"))
		// So that a call in plain text would fail.
		strict := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{%q:"8443=strict"}}}}}`, config.AnnotationMTLSPorts)
		_, err := e.AppsV1().Deployments(e.ns).Patch(e.ctx, name, types.MergePatchType, []byte(strict), metav1.PatchOptions{})
		e.must(err)
		e.service(name, name, port("tls", 8443))
	}
	e.service("server", "v1", port("tcp-shares", shares), portTo("names", names, intstr.FromInt(8443)))
	client := e.client()
	e.ready("v1", "v2")
	call := func(host string, port int) api.Call {
		return api.Call{Kind: api.TLS, Target: fmt.Sprintf("%s:%d", host, port), Timeout: 3 * time.Second}
	}
	e.reachable(client, call("server", shares), call("server", names))

	e.apply(connectionRoute("TCPRoute", "shares", shares, "", "{name: v1, port: 8443, weight: 80}, {name: v2, port: 8443, weight: 20}"))
	e.status(cluster.TCPRoutes, "shares", accepted, resolvedRefs)
	e.answered(client, call("server", shares), statusTime, by("v2"))
	const n = 200
	got := 0
	for range n {
		a := e.call(client, call("server", shares))
		if !a.OK {
			t.Fatalf("a connection of a TCPRoute: %+v", a)
		}
		if by("v2")(a) {
			got++
		}
	}
	figure(t, "TCPRoute 80/20: connections to the second backend", fmt.Sprintf("%d of %d", got, n), "20 % ± 4 standard deviations")
	if off := 4 * math.Sqrt(n*0.2*0.8); math.Abs(float64(got)-0.2*n) > off {
		t.Errorf("%d of %d connections went to v2, want %.0f ± %.0f", got, n, 0.2*n, off)
	}

	e.apply(connectionRoute("TCPRoute", "younger", shares, "", "{name: v2, port: 8443}"))
	e.status(cluster.TCPRoutes, "younger", notAccepted("Conflicted", "TCPRoute "+e.ns+"/shares on port"))
	e.eventOn("TCPRoute", "younger", "Conflicted", "TCPRoute "+e.ns+"/shares on port 8443")
	e.apply(connectionRoute("TCPRoute", "shares", shares, "", "{name: nobody, port: 8443}"))
	e.status(cluster.TCPRoutes, "shares", accepted, unresolved(gatewayv1.RouteReasonBackendNotFound, "nobody"))
	e.eventOn("TCPRoute", "shares", "BackendNotFound", "spec.rules[0].backendRefs[0]: Service "+e.ns+"/nobody does not exist")
	e.answered(client, call("server", shares), statusTime, func(a api.Answer) bool { return !a.OK })
	e.deleteRoute(cluster.TCPRoutes, "shares")
	e.status(cluster.TCPRoutes, "younger", accepted, resolvedRefs)
	e.answered(client, call("server", shares), statusTime, by("v2"))

	e.apply(connectionRoute("TLSRoute", "exact", names, "server", "{name: v1, port: 8443}"))
	e.apply(connectionRoute("TLSRoute", "wildcard", names, `"*.`+e.ns+`.svc"`, "{name: v2, port: 8443}"))
	e.status(cluster.TLSRoutes, "exact", accepted, resolvedRefs)
	e.status(cluster.TLSRoutes, "wildcard", accepted, resolvedRefs)
	e.answered(client, call("server."+e.ns+".svc", names), statusTime, by("v2"))
	for range 20 {
		if a := e.call(client, call("server", names)); !by("v1")(a) {
			t.Errorf("server name %q: %+v, want v1", "server", a)
		}
		if a := e.call(client, call("server."+e.ns+".svc", names)); !by("v2")(a) {
			t.Errorf("server name of the wildcard: %+v, want v2", a)
		}
	}
	if a := e.call(client, call("server."+e.ns, names)); a.OK {
		t.Errorf("a server name of no route: %+v, want the connection closed", a)
	}
	if nacks := e.proxy(client).NACKs; len(nacks) > 0 {
		t.Errorf("the client's sidecar refused %+v", nacks)
	}
}

// eventOn waits for a warning on an object.
func (e *env) eventOn(kind, name, reason, message string) {
	e.Helper()
	e.eventually(30*time.Second, func() (string, error) {
		events, err := e.CoreV1().Events(e.ns).List(e.ctx, metav1.ListOptions{FieldSelector: fmt.Sprintf("involvedObject.kind=%s,involvedObject.name=%s", kind, name)})
		if err != nil {
			return "", err
		}
		for _, ev := range events.Items {
			if ev.Type == corev1.EventTypeWarning && ev.Reason == reason && strings.Contains(ev.Message, message) {
				return "", nil
			}
		}
		return fmt.Sprintf("a warning %s on %s %s that says %q: events %v", reason, kind, name, message, events.Items), nil
	})
}
