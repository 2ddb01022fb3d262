package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// The CRDs of the Gateway API come, go and come again under load: routes hold while there are any, calls go to the
// Service itself otherwise, and nothing of the control plane restarts.
func TestGatewayAPI(t *testing.T) {
	alone(t)
	if withoutMesh {
		t.Skip("routes need the mesh")
	}
	e := newEnv(t, true)
	foreign, err := e.ForeignGatewayAPI(e.ctx)
	e.must(err)
	if foreign {
		t.Skip("the cluster has CRDs of the Gateway API that are not ours to remove")
	}
	e.must(e.RemoveGatewayAPI(e.ctx)) // of a test before this one
	before := e.controlPlanePods()
	e.server("server", 1)
	e.server("other", 1)
	client := e.client()
	e.ready("server", "other")
	e.reachable(client, httpCall)
	running := e.startLoad(client, api.Load{Call: httpCall, Rate: 100})
	e.answered(client, httpCall, statusTime, by("server"))
	route := httpRoute("to-other", "", `{backendRefs: [{name: other, port: 8080}]}`)
	for _, round := range []string{"installed later", "installed again"} {
		e.must(e.InstallExperimentalGatewayAPI(e.ctx))
		e.apply(route)
		start := time.Now()
		_, err := e.WaitRoute(e.ctx, cluster.HTTPRoutes, e.ns, "to-other", 30*time.Second, accepted, resolvedRefs)
		e.must(err)
		figure(t, "CRDs "+round+": first status of a route", time.Since(start).Round(10*time.Millisecond).String(), "≤ 30 s")
		e.answered(client, httpCall, statusTime, by("other"))
		if round == "installed again" {
			break
		}
		e.must(e.RemoveGatewayAPI(e.ctx))
		took := e.answered(client, httpCall, 30*time.Second, by("server"))
		figure(t, "CRDs removed: calls go to the Service itself after", took.Round(10*time.Millisecond).String(), "≤ 30 s")
	}
	running.noFailures("calls while CRDs came and went")
	if after := e.controlPlanePods(); !slices.Equal(before, after) {
		t.Errorf("pods of the control plane, with their restarts: %v, before the CRDs %v", after, before)
	}
}

// controlPlanePods names the pods of the control plane with their restarts.
func (e *env) controlPlanePods() []string {
	e.Helper()
	pods, err := e.Pods(e.ctx, cluster.SystemNamespace, "")
	e.must(err)
	var out []string
	for _, p := range pods {
		restarts := int32(0)
		for _, c := range p.Status.ContainerStatuses {
			restarts += c.RestartCount
		}
		out = append(out, fmt.Sprintf("%s: %d", p.Name, restarts))
	}
	slices.Sort(out)
	return out
}

// Statuses are the leader's to write: another replica goes on when it is gone. What another controller says in the
// status of a route stays.
func TestRouteStatuses(t *testing.T) {
	alone(t)
	e := newRouteEnv(t)
	e.server("server", 1)
	route := func(backend string) string {
		return httpRoute("shared", "", fmt.Sprintf(`{backendRefs: [{name: %s, port: 8080}]}`, backend))
	}
	e.apply(route("server"))
	e.status(cluster.HTTPRoutes, "shared", accepted, resolvedRefs)
	foreign := e.writeForeign("shared")
	kept := func() {
		e.Helper()
		r, err := e.Route(e.ctx, cluster.HTTPRoutes, e.ns, "shared")
		e.must(err)
		i := slices.IndexFunc(r.Status.Parents, func(p gatewayv1.RouteParentStatus) bool { return p.ControllerName == foreign.ControllerName })
		if len(r.Status.Parents) != 2 || i < 0 || r.Status.Parents[i].Conditions[0].Message != foreign.Conditions[0].Message {
			t.Errorf("status.parents is %+v, want an entry of Mizzen's and %+v", r.Status.Parents, foreign)
		}
	}
	e.apply(route("nobody"))
	e.status(cluster.HTTPRoutes, "shared", accepted, unresolved(gatewayv1.RouteReasonBackendNotFound, "nobody"))
	kept()

	leader := e.leader()
	e.must(e.CoreV1().Pods(cluster.SystemNamespace).Delete(e.ctx, leader, metav1.DeleteOptions{}))
	e.apply(route("server"))
	start := time.Now()
	_, err := e.WaitRoute(e.ctx, cluster.HTTPRoutes, e.ns, "shared", time.Minute, accepted, resolvedRefs)
	e.must(err)
	figure(t, "status of a route after the leader was deleted", time.Since(start).Round(10*time.Millisecond).String(), "≤ 1 min")
	if now := e.leader(); now == leader {
		t.Errorf("%s leads though it was deleted", now)
	}
	e.apply(route("nobody")) // the first may have been the old leader's last word
	e.status(cluster.HTTPRoutes, "shared", accepted, unresolved(gatewayv1.RouteReasonBackendNotFound, "nobody"))
	kept()
	e.eventually(readyTimeout, func() (string, error) {
		if _, err := e.CoreV1().Pods(cluster.SystemNamespace).Get(e.ctx, leader, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			return leader + " is on its way out", err
		}
		return "", nil
	})
	for _, name := range e.controlPlane() {
		e.must(e.WaitDeployment(e.ctx, cluster.SystemNamespace, name, readyTimeout))
	}
}

// writeForeign adds what another controller may say to the status of a route, as such a controller would.
func (e *env) writeForeign(name string) gatewayv1.RouteParentStatus {
	e.Helper()
	entry := gatewayv1.RouteParentStatus{
		ControllerName: "example.com/other",
		ParentRef:      gatewayv1.ParentReference{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: "server"},
		Conditions: []metav1.Condition{{
			Type: "Accepted", Status: metav1.ConditionFalse, Reason: "NotAllowedByListeners", Message: "said by another controller",
			LastTransitionTime: metav1.Now(),
		}},
	}
	e.must(e.AddParentStatus(e.ctx, cluster.HTTPRoutes, e.ns, name, entry))
	return entry
}

// leader is the live pod that holds the control plane's lease.
func (e *env) leader() string {
	e.Helper()
	var leader string
	e.eventually(time.Minute, func() (string, error) {
		lease, err := e.CoordinationV1().Leases(cluster.SystemNamespace).Get(e.ctx, "mizzen-controller", metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		pods, err := e.Pods(e.ctx, cluster.SystemNamespace, "")
		if err != nil {
			return "", err
		}
		for _, p := range pods {
			if lease.Spec.HolderIdentity != nil && *lease.Spec.HolderIdentity == p.Name {
				leader = p.Name
				return "", nil
			}
		}
		return "a live pod that holds the lease", nil
	})
	return leader
}
