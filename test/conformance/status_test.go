package conformance

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// statusTimeout is what a user is promised.
const statusTimeout = 5 * time.Second

// routesAreAccepted waits until every route of the cluster has a status of its present generation for each of its
// parents, with the conditions that it should have. No test of a mesh in the suite looks at statuses.
func routesAreAccepted(t *testing.T, s *suite.ConformanceTestSuite) {
	t.Helper()
	err := cluster.Poll(t.Context(), statusTimeout, func(ctx context.Context) (string, error) {
		var https gatewayv1.HTTPRouteList
		var grpcs gatewayv1.GRPCRouteList
		for _, list := range []client.ObjectList{&https, &grpcs} {
			if err := s.Client.List(ctx, list); err != nil {
				return "", err
			}
		}
		var missing []string
		for _, r := range https.Items {
			missing = append(missing, lacks("HTTPRoute", r.ObjectMeta, r.Spec.ParentRefs, r.Status.Parents)...)
		}
		for _, r := range grpcs.Items {
			missing = append(missing, lacks("GRPCRoute", r.ObjectMeta, r.Spec.ParentRefs, r.Status.Parents)...)
		}
		return strings.Join(missing, "; "), nil
	})
	if err != nil {
		t.Error(err)
	}
}

// lacks says how a route's status differs from what it should be.
func lacks(kind string, meta metav1.ObjectMeta, refs []gatewayv1.ParentReference, parents []gatewayv1.RouteParentStatus) []string {
	name := kind + " " + meta.Namespace + "/" + meta.Name
	if len(parents) != len(refs) {
		return []string{fmt.Sprintf("%s: status of %d parents, want %d", name, len(parents), len(refs))}
	}
	var out []string
	for _, p := range parents {
		for _, want := range []gatewayv1.RouteConditionType{gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs} {
			reasons, bad := unresolved[meta.Name]
			bad = bad && want == gatewayv1.RouteConditionResolvedRefs
			if problem := condition(p.Conditions, string(want), meta.Generation, bad, reasons); problem != "" {
				out = append(out, fmt.Sprintf("%s, parent %s: %s", name, p.ParentRef.Name, problem))
			}
		}
	}
	return out
}

// condition says what is wrong with the condition of a type: it should be true, or false for one of some reasons.
func condition(conditions []metav1.Condition, kind string, generation int64, bad bool, reasons string) string {
	for _, c := range conditions {
		if c.Type != kind {
			continue
		}
		right := c.Status == metav1.ConditionTrue
		if bad {
			right = c.Status == metav1.ConditionFalse && strings.Contains(reasons, c.Reason)
		}
		if right && c.ObservedGeneration == generation {
			return ""
		}
		return fmt.Sprintf("%s is %s of generation %d, not %d: %s: %s", kind, c.Status, c.ObservedGeneration, generation, c.Reason, c.Message)
	}
	return "no condition " + kind
}
