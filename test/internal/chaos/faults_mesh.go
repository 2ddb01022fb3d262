package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// A change of what the mesh is told excuses no failed call.

// statusTime bounds the time until an object has its status.
const statusTime = 30 * time.Second

var policies = v1alpha1.GroupVersion.WithResource("authorizationpolicies")

var routeConditions = []cluster.RouteCondition{
	{Type: gatewayv1.RouteConditionAccepted, Status: metav1.ConditionTrue},
	{Type: gatewayv1.RouteConditionResolvedRefs, Status: metav1.ConditionTrue},
}

// routesReady waits for the statuses of the routes that divide calls.
func (s *suite) routesReady(ctx context.Context) error {
	for _, kind := range []cluster.RouteKind{cluster.HTTPRoutes, cluster.GRPCRoutes} {
		if _, err := s.WaitRoute(ctx, kind, s.ns, "routed", statusTime, routeConditions...); err != nil {
			return err
		}
	}
	return nil
}

func weightsChanged(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	weight := pick(draw, []int{0, 5, 50, 95, 100})
	h := &harm{target: fmt.Sprintf("routed, %d to %d", 100-weight, weight), settle: s.routesReady}
	return h, s.Apply(ctx, s.ns, fmt.Sprintf(routes, 100-weight, weight))
}

// routesDeleted leaves the Service with its own pods.
func routesDeleted(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	h := &harm{target: "routed", settle: s.routesReady}
	h.undo = func(ctx context.Context) error { return s.Apply(ctx, s.ns, fmt.Sprintf(routes, 50, 50)) }
	for _, kind := range []cluster.RouteKind{cluster.HTTPRoutes, cluster.GRPCRoutes} {
		if err := s.Dynamic.Resource(kind.GVR()).Namespace(s.ns).Delete(ctx, "routed", metav1.DeleteOptions{}); err != nil {
			return h, err
		}
	}
	return h, hold(ctx, seconds(draw, 1, 3))
}

// policyChanged refuses the calls of a service account that nobody has.
func policyChanged(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	const name = "nobody"
	h := &harm{target: "authorizationpolicy/" + name}
	h.undo = func(ctx context.Context) error {
		return s.Dynamic.Resource(policies).Namespace(s.ns).Delete(ctx, name, metav1.DeleteOptions{})
	}
	err := s.Apply(ctx, s.ns, fmt.Sprintf(`
apiVersion: mizzen.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: %s}
spec:
  podSelector: {matchLabels: {part: server}}
  action: Deny
  rules: [{from: [{serviceAccount: {name: nobody}}]}]
`, name))
	if err != nil {
		return nil, err
	}
	if err := s.policyReady(ctx, name); err != nil {
		return h, err
	}
	return h, hold(ctx, seconds(draw, 1, 3))
}

// policyReady waits until a policy is accepted.
func (s *suite) policyReady(ctx context.Context, name string) error {
	return cluster.Poll(ctx, statusTime, func(ctx context.Context) (string, error) {
		o, err := s.Dynamic.Resource(policies).Namespace(s.ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		conditions, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == v1alpha1.ConditionAccepted && c["status"] == "True" {
				return "", nil
			}
		}
		return fmt.Sprintf("condition Accepted of policy %s/%s: %v", s.ns, name, conditions), err
	})
}

// modeChanged makes the namespace strict for some seconds.
func modeChanged(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	set := func(ctx context.Context, mode string) error {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, config.AnnotationMTLS, mode)
		_, err := s.CoreV1().Namespaces().Patch(ctx, s.ns, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	}
	h := &harm{target: "namespace/" + s.ns}
	h.undo = func(ctx context.Context) error { return set(ctx, string(config.Permissive)) }
	if err := set(ctx, string(config.Strict)); err != nil {
		return h, err
	}
	return h, hold(ctx, seconds(draw, 1, 4))
}

// portsRenamed changes the names of the ports of the Service server, but not their protocols.
func portsRenamed(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	h := &harm{target: "service/" + server}
	h.undo = func(ctx context.Context) error {
		return s.Apply(ctx, s.ns, fmt.Sprintf(service, server, "app: server", ""))
	}
	if err := s.Apply(ctx, s.ns, fmt.Sprintf(service, server, "app: server", "-renamed")); err != nil {
		return h, err
	}
	return h, hold(ctx, seconds(draw, 1, 3))
}

// selectorChanged asks for one label more, which all pods of the Service have.
func selectorChanged(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	h := &harm{target: "service/" + server}
	h.undo = func(ctx context.Context) error {
		return s.Apply(ctx, s.ns, fmt.Sprintf(service, server, "app: server", ""))
	}
	if err := s.Apply(ctx, s.ns, fmt.Sprintf(service, server, "app: server, part: server", "")); err != nil {
		return h, err
	}
	return h, hold(ctx, seconds(draw, 1, 3))
}

// crdsRemoved takes the Gateway away, so those who call through it rest meanwhile. The Service of the routes stays with its own pods.
func crdsRemoved(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	h := &harm{target: "gateway.networking.k8s.io"}
	if err := s.rest(ctx, func(c *client) bool { return c.gateway }); err != nil {
		return h, err
	}
	h.undo = func(ctx context.Context) error {
		if err := s.InstallExperimentalGatewayAPI(ctx); err != nil {
			return err
		}
		return s.Apply(ctx, s.ns, fmt.Sprintf(routes+gateway, 50, 50))
	}
	h.settle = func(ctx context.Context) error {
		if err := s.gatewayReady(ctx); err != nil {
			return err
		}
		if err := s.routesReady(ctx); err != nil {
			return err
		}
		return s.reachable(ctx)
	}
	if err := s.RemoveGatewayAPI(ctx); err != nil {
		return h, err
	}
	return h, hold(ctx, seconds(draw, 1, 5))
}
