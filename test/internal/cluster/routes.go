package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/retry"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/status"
)

// RouteKind is the resource of a kind of route.
type RouteKind string

// The kinds of route.
const (
	HTTPRoutes RouteKind = "httproutes"
	GRPCRoutes RouteKind = "grpcroutes"
	TLSRoutes  RouteKind = "tlsroutes"
	TCPRoutes  RouteKind = "tcproutes"
)

// GVR is the resource in the version that Mizzen reads.
func (k RouteKind) GVR() schema.GroupVersionResource {
	return schema.GroupVersion(gatewayv1.GroupVersion).WithResource(string(k))
}

// Route is what all kinds of route have in common.
type Route struct {
	metav1.ObjectMeta `json:"metadata"`
	Status            gatewayv1.RouteStatus `json:"status"`
}

// Route reads one.
func (c *Cluster) Route(ctx context.Context, kind RouteKind, namespace, name string) (*Route, error) {
	obj, err := c.Dynamic.Resource(kind.GVR()).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	r := &Route{}
	return r, runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, r)
}

// RouteCondition is what is awaited of a route: in each of Mizzen's entries in its status a condition that speaks
// of its latest generation.
type RouteCondition struct {
	Type   gatewayv1.RouteConditionType
	Status metav1.ConditionStatus
	// Reason and Message, where not empty: the reason, and what the message holds.
	Reason, Message string
}

// WaitRoute waits until a route has all conditions, and gives it as it then is.
func (c *Cluster) WaitRoute(ctx context.Context, kind RouteKind, namespace, name string, timeout time.Duration, wanted ...RouteCondition) (*Route, error) {
	var r *Route
	err := Poll(ctx, timeout, func(ctx context.Context) (missing string, err error) {
		if r, err = c.Route(ctx, kind, namespace, name); err != nil {
			return "", err
		}
		return r.missing(wanted), nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s %s/%s: %w", kind, namespace, name, err)
	}
	return r, nil
}

// missing says what is not as it is wanted; nothing is "".
func (r *Route) missing(wanted []RouteCondition) string {
	ours := 0
	for _, parent := range r.Status.Parents {
		if parent.ControllerName != status.ControllerName {
			continue
		}
		ours++
		for _, want := range wanted {
			if !slices.ContainsFunc(parent.Conditions, func(c metav1.Condition) bool { return want.is(c) && c.ObservedGeneration == r.Generation }) {
				return fmt.Sprintf("want %+v of generation %d, has %+v", want, r.Generation, parent.Conditions)
			}
		}
	}
	if ours == 0 {
		return "no status of Mizzen's"
	}
	return ""
}

func (w RouteCondition) is(c metav1.Condition) bool {
	return c.Type == string(w.Type) && c.Status == w.Status && (w.Reason == "" || c.Reason == w.Reason) && strings.Contains(c.Message, w.Message)
}

// AddParentStatus adds an entry to the status of a route, as its controller would.
func (c *Cluster) AddParentStatus(ctx context.Context, kind RouteKind, namespace, name string, entry gatewayv1.RouteParentStatus) error {
	raw, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&entry)
	if err != nil {
		return err
	}
	routes := c.Dynamic.Resource(kind.GVR()).Namespace(namespace)
	return retry.RetryOnConflict(retry.DefaultRetry, func() error {
		obj, err := routes.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		parents, _, err := unstructured.NestedSlice(obj.Object, "status", "parents")
		if err != nil {
			return err
		}
		if err := unstructured.SetNestedSlice(obj.Object, append(parents, raw), "status", "parents"); err != nil {
			return err
		}
		_, err = routes.UpdateStatus(ctx, obj, metav1.UpdateOptions{})
		return err
	})
}
