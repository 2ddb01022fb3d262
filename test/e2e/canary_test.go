package e2e

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// Calls to the example's Service.
var (
	webHTTP = api.Call{Kind: api.HTTP, Target: "http://web:8081/", PodInBody: true}
	webGRPC = api.Call{Kind: api.WhoAmI, Target: "web:50051"}
)

const canaryDir = "examples/canary/"

// canary is a run of the example under load.
type canary struct {
	*env
	client cluster.Pod
	loads  map[string]*load
}

// Scenario 13, with the files of examples/canary: version 2 gets 0, 5, 50 and 100 % of the calls, then version 1 is
// deleted, then the routes are. No call fails, and the shares are what the routes say.
func TestCanary(t *testing.T) {
	alone(t)
	c := &canary{env: newRouteEnv(t)}
	c.files("web.yaml", "versions.yaml")
	c.client = c.env.client()
	c.ready("web-v1")
	c.reachable(c.client, webHTTP, webGRPC)
	c.loads = map[string]*load{
		"HTTP": c.startLoad(c.client, api.Load{Call: webHTTP, Rate: 250, Concurrency: atOnce}),
		"gRPC": c.startLoad(c.client, api.Load{Call: webGRPC, Rate: 250, Concurrency: atOnce}),
	}
	// The route comes before the pods, as its README says.
	c.step(0, 0)
	c.files("web-v2.yaml")
	c.ready("web-v2")
	c.shares(0)
	for i, weight := range []int{5, 50, 100} {
		c.step([]int{0, 5, 50}[i], weight)
		c.shares(weight)
	}

	c.must(c.CoreV1().Services(c.ns).Delete(c.ctx, "web-v1", metav1.DeleteOptions{}))
	gone := unresolved(gatewayv1.RouteReasonBackendNotFound, "web-v1")
	c.status(cluster.HTTPRoutes, "web-http", accepted, gone)
	c.status(cluster.GRPCRoutes, "web-grpc", accepted, gone)
	c.must(c.AppsV1().Deployments(c.ns).Delete(c.ctx, "web-v1", metav1.DeleteOptions{}))
	c.noTerminating("version=v1")
	c.deleteRoute(cluster.HTTPRoutes, "web-http")
	c.deleteRoute(cluster.GRPCRoutes, "web-grpc")
	c.must(c.CoreV1().Services(c.ns).Delete(c.ctx, "web-v2", metav1.DeleteOptions{}))
	for name, l := range c.loads {
		c.calls(l, 250, 20*time.Second)
		l.noFailures("calls by " + name + " through the whole canary")
	}
}

func (c *canary) files(names ...string) {
	c.Helper()
	for _, name := range names {
		c.must(c.ApplyFile(c.ctx, c.ns, canaryDir+name))
	}
}

// window is so many calls that a share nearer to the new weight than to the old one is no chance.
const window = 200

// step sets the weight of version 2 and waits until the sidecar of the client has it: the latest calls of both loads
// follow it.
func (c *canary) step(before, weight int) {
	c.Helper()
	c.files(fmt.Sprintf("route-%d.yaml", weight))
	c.status(cluster.HTTPRoutes, "web-http", accepted, resolvedRefs)
	c.status(cluster.GRPCRoutes, "web-grpc", accepted, resolvedRefs)
	was := map[string]map[string]int{}
	for name, l := range c.loads {
		was[name] = l.result().Pods
	}
	c.eventually(20*time.Second, func() (missing string, err error) {
		for name, l := range c.loads {
			now := l.result().Pods
			if total(now)-total(was[name]) < window {
				return name + ": more calls", nil
			}
			share := v2Share(now, was[name])
			was[name] = now
			if math.Abs(share-float64(weight)) > math.Abs(float64(weight-before))/2 {
				missing = fmt.Sprintf("%s: version 2 has %.1f %% of the latest calls, want %d", name, share, weight)
			}
		}
		return missing, nil
	})
}

func total(calls map[string]int) (n int) {
	for _, m := range calls {
		n += m
	}
	return n
}

// shares asserts the share of version 2 by protocol, ±1 point. The proxy draws for each call, so the number of calls is such
// that a point is four standard deviations, 10,000 at least.
func (c *canary) shares(weight int) {
	c.Helper()
	w := float64(weight) / 100
	calls := max(10_000, int(w*(1-w)*(4/.01)*(4/.01)))
	loads := map[string]*load{}
	for name, call := range map[string]api.Call{"HTTP": webHTTP, "gRPC": webGRPC} {
		loads[name] = c.startLoad(c.client, api.Load{Call: call, Calls: calls, Concurrency: 8})
	}
	for name, l := range loads {
		r := l.wait(2 * time.Minute)
		share := v2Share(r.Pods, nil)
		figure(c.T, fmt.Sprintf("share of version 2, %s, weight %d", name, weight), fmt.Sprintf("%.2f %% of %d calls, %d failed", share, r.Calls, r.Failed), fmt.Sprintf("%d ± 1 %%, 0 failed", weight))
		if math.Abs(share-float64(weight)) > 1 || (weight == 0 || weight == 100) && share != float64(weight) {
			c.Errorf("%s: version 2 got %.2f %%, want %d", name, share, weight)
		}
		if r.Failed > 0 || r.Calls != calls {
			c.Errorf("%s at %d %%: %s", name, weight, failures(r))
		}
	}
}

// v2Share is the percentage of the calls to version 2, without those before.
func v2Share(calls, before map[string]int) float64 {
	all, v2 := 0, 0
	for pod, n := range calls {
		n -= before[pod]
		all += n
		if strings.HasPrefix(pod, "web-v2-") {
			v2 += n
		}
	}
	return 100 * float64(v2) / float64(max(1, all))
}
