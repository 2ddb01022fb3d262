package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// httpRoute is an HTTPRoute on the HTTP port of "server": its metadata beside the name, and the one rule, in YAML's flow style.
func httpRoute(name, metadata, rule string) string {
	return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: %s%s}
spec:
  parentRefs: [%s]
  rules: [%s]
`, name, metadata, parentRef(httpPort), rule)
}

const (
	goodRule = `{matches: [{path: {type: PathPrefix, value: /good}}], backendRefs: [{name: server, port: 8080}],
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /rewritten}}}]}`
	// catchAll is what a call to a rule that does not count falls through to.
	catchAll = `{matches: [{path: {type: PathPrefix, value: /}}], backendRefs: [{name: server, port: 8080}]}`
)

// badRoutes is what users get wrong, and what they are told.
var badRoutes = []struct {
	name, manifest string
	want           []cluster.RouteCondition
	// path is called, and answered with status.
	path   string
	status int
}{
	{
		"regex", httpRoute("regex", "", `{matches: [{path: {type: RegularExpression, value: "/regex(b"}}], backendRefs: [{name: server, port: 8080}]}`),
		[]cluster.RouteCondition{notAccepted(gatewayv1.RouteReasonUnsupportedValue, "/regex(b")},
		"/regexb", 200,
	},
	{
		"unknown-backend", httpRoute("unknown-backend", "", `{matches: [{path: {value: /unknown}}], backendRefs: [{name: nobody, port: 8080}]}`),
		[]cluster.RouteCondition{accepted, unresolved(gatewayv1.RouteReasonBackendNotFound, "nobody")},
		"/unknown", 500,
	},
	{
		"unknown-port", httpRoute("unknown-port", "", `{matches: [{path: {value: /port}}], backendRefs: [{name: server, port: 1234}]}`),
		[]cluster.RouteCondition{accepted, unresolved(gatewayv1.RouteReasonBackendNotFound, "1234")},
		"/port", 500,
	},
	{
		"without-grant", httpRoute("without-grant", "", `{matches: [{path: {value: /grant}}], backendRefs: [{name: kubernetes, namespace: default, port: 443}]}`),
		[]cluster.RouteCondition{accepted, unresolved(gatewayv1.RouteReasonRefNotPermitted, "default/kubernetes")},
		"/grant", 500,
	},
	{
		"kind", httpRoute("kind", "", `{matches: [{path: {value: /kind}}], backendRefs: [{group: example.com, kind: Bucket, name: b, port: 1}]}`),
		[]cluster.RouteCondition{accepted, unresolved(gatewayv1.RouteReasonInvalidKind, "Bucket")},
		"/kind", 500,
	},
	{
		"annotation", httpRoute("annotation", `, annotations: {mizzen.dev/timeout: fast}`, `{matches: [{path: {value: /annotation}}], backendRefs: [{name: server, port: 8080}]}`),
		[]cluster.RouteCondition{notAccepted(gatewayv1.RouteReasonUnsupportedValue, `metadata.annotations[mizzen.dev/timeout]: "fast"`)},
		"/annotation", 200,
	},
}

// refusedRoutes do not pass the schema; the error names the field.
var refusedRoutes = map[string]string{
	"weight":            httpRoute("negative", "", `{backendRefs: [{name: server, port: 8080, weight: -1}]}`),
	"timeouts.request":  httpRoute("duration", "", `{timeouts: {request: 5 minutes}, backendRefs: [{name: server, port: 8080}]}`),
	"matches[0].method": httpRoute("method", "", `{matches: [{method: FETCH}], backendRefs: [{name: server, port: 8080}]}`),
}

// Scenario 14: routes with mistakes are refused or get a status with the reason within 5 s, and harm nobody else: another
// route of the same Service port goes on as before, and new pods get Ready.
func TestBadRoutes(t *testing.T) {
	alone(t)
	e := newRouteEnv(t)
	e.server("server", 2)
	client := e.client()
	e.ready("server")
	good := api.Call{Kind: api.HTTP, Target: httpCall.Target + "good", Want: "GET /rewritten "}
	e.apply(httpRoute("good", "", goodRule+", "+catchAll))
	e.status(cluster.HTTPRoutes, "good", accepted, resolvedRefs)
	e.reachable(client, good, grpcCall)
	loads := map[string]*load{
		"a good route": e.startLoad(client, api.Load{Call: good, Rate: 200}),
		"another port": e.startLoad(client, api.Load{Call: grpcCall, Rate: 100}),
	}

	for field, manifest := range refusedRoutes {
		if err := e.Apply(e.ctx, e.ns, manifest); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("a bad %s: %v, want a refusal that names it", field, err)
		}
	}
	var slowest time.Duration
	for _, bad := range badRoutes {
		e.apply(bad.manifest)
		slowest = max(slowest, e.status(cluster.HTTPRoutes, bad.name, bad.want...))
		last := bad.want[len(bad.want)-1]
		e.eventOn("HTTPRoute", bad.name, last.Reason, last.Message)
		c := api.Call{Kind: api.HTTP, Target: httpCall.Target + strings.TrimPrefix(bad.path, "/")}
		e.answered(client, c, statusTime, func(a api.Answer) bool { return a.Status == bad.status })
	}
	figure(t, fmt.Sprintf("slowest status of %d bad routes", len(badRoutes)), slowest.Round(time.Millisecond).String(), "≤ "+statusTime.String())

	e.create(e.pod("new", serverPod()))
	e.must(e.Scale(e.ctx, e.ns, "server", 3))
	e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "new"}, readyTimeout))
	e.ready("server")
	// The third server is called: what Envoy holds still follows changes.
	e.eventually(20*time.Second, func() (string, error) {
		if n := len(loads["a good route"].result().Pods); n < 3 {
			return fmt.Sprintf("%d of 3 pods called", n), nil
		}
		return "", nil
	})
	if a := e.call(cluster.Pod{Namespace: e.ns, Name: "new"}, good); !a.OK {
		t.Errorf("the good route, from a new pod: %+v", a)
	}
	for name, l := range loads {
		l.noFailures("calls to " + name + " beside bad ones")
	}
	if nacks := e.proxy(client).NACKs; len(nacks) > 0 {
		t.Errorf("the client's sidecar refused %+v: what Envoy refuses must not be sent", nacks)
	}
}

// A Service port has routes of one kind: GRPCRoute, if there is one. An HTTPRoute beside it is told so, and holds again
// when the GRPCRoute is gone.
func TestRouteKinds(t *testing.T) {
	alone(t)
	e := newRouteEnv(t)
	e.server("server", 1)
	e.server("by-http", 1)
	e.server("by-grpc", 1)
	client := e.client()
	e.ready("server", "by-http", "by-grpc")
	route := func(kind, to string) string {
		return fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: %s
metadata: {name: %s}
spec: {parentRefs: [%s], rules: [{backendRefs: [{name: %[2]s, port: %[4]d}]}]}
`, kind, to, parentRef(grpcPort), grpcPort)
	}
	e.apply(route("HTTPRoute", "by-http"))
	e.status(cluster.HTTPRoutes, "by-http", accepted, resolvedRefs)
	e.answered(client, grpcCall, statusTime, by("by-http"))
	e.apply(route("GRPCRoute", "by-grpc"))
	e.status(cluster.GRPCRoutes, "by-grpc", accepted, resolvedRefs)
	e.status(cluster.HTTPRoutes, "by-http", notAccepted("Conflicted", "GRPCRoute"))
	e.answered(client, grpcCall, statusTime, by("by-grpc"))
	// HTTP calls to that port have no route: a GRPCRoute matches gRPC only.
	e.deleteRoute(cluster.GRPCRoutes, "by-grpc")
	e.status(cluster.HTTPRoutes, "by-http", accepted, resolvedRefs)
	e.answered(client, grpcCall, statusTime, by("by-http"))
}
