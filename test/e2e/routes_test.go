package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// statusTime is how soon a route has its status.
const statusTime = 5 * time.Second

// newRouteEnv is newEnv for a test of routes, with the Gateway API's CRDs installed.
func newRouteEnv(t *testing.T) *env {
	t.Helper()
	if withoutMesh {
		t.Skip("routes need the mesh")
	}
	e := newEnv(t, true)
	e.must(e.InstallExperimentalGatewayAPI(e.ctx))
	return e
}

// Conditions of a route that are often awaited.
var (
	accepted     = cluster.RouteCondition{Type: gatewayv1.RouteConditionAccepted, Status: metav1.ConditionTrue, Reason: "Accepted"}
	resolvedRefs = cluster.RouteCondition{Type: gatewayv1.RouteConditionResolvedRefs, Status: metav1.ConditionTrue, Reason: "ResolvedRefs"}
)

func notAccepted(reason gatewayv1.RouteConditionReason, message string) cluster.RouteCondition {
	return cluster.RouteCondition{Type: gatewayv1.RouteConditionAccepted, Status: metav1.ConditionFalse, Reason: string(reason), Message: message}
}

func unresolved(reason gatewayv1.RouteConditionReason, message string) cluster.RouteCondition {
	return cluster.RouteCondition{Type: gatewayv1.RouteConditionResolvedRefs, Status: metav1.ConditionFalse, Reason: string(reason), Message: message}
}

// apply applies manifests to the test's namespace.
func (e *env) apply(manifests string) {
	e.Helper()
	e.must(e.Apply(e.ctx, e.ns, manifests))
}

// status waits until a route has these conditions, and gives the time that took.
func (e *env) status(kind cluster.RouteKind, name string, wanted ...cluster.RouteCondition) time.Duration {
	e.Helper()
	start := time.Now()
	_, err := e.WaitRoute(e.ctx, kind, e.ns, name, statusTime, wanted...)
	e.must(err)
	return time.Since(start)
}

// answered waits until a call from a pod gets the answer that ok accepts, and gives the time that took.
func (e *env) answered(from cluster.Pod, c api.Call, timeout time.Duration, ok func(api.Answer) bool) time.Duration {
	e.Helper()
	start := time.Now()
	e.eventually(timeout, func() (string, error) {
		if a := e.call(from, c); !ok(a) {
			return fmt.Sprintf("%s %s: answer %+v", c.Kind, c.Target, a), nil
		}
		return "", nil
	})
	return time.Since(start)
}

// by accepts the answer of a pod of a Deployment.
func by(deployment string) func(api.Answer) bool {
	return func(a api.Answer) bool { return a.OK && strings.HasPrefix(a.Pod, deployment+"-") }
}

// executions is how many calls the pods of the server have carried out together.
func (e *env) executions() int {
	e.Helper()
	sum := 0
	for _, p := range e.podsOf("server") {
		var n int
		e.must(e.JSON(e.ctx, "GET", p, api.ControlPort, "/executed", nil, &n))
		sum += n
	}
	return sum
}

// parentRef is the reference of a route to a port of the Service "server".
func parentRef(port int) string {
	return fmt.Sprintf(`{group: "", kind: Service, name: server, port: %d}`, port)
}

func (e *env) deleteRoute(kind cluster.RouteKind, name string) {
	e.Helper()
	e.must(e.Dynamic.Resource(kind.GVR()).Namespace(e.ns).Delete(e.ctx, name, metav1.DeleteOptions{}))
}
