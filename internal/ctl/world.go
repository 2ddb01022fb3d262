package ctl

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// objects are what the rules of Services are built from.
type objects struct {
	services []*corev1.Service
	http     []*gatewayv1.HTTPRoute
	grpc     []*gatewayv1.GRPCRoute
	grants   []*gatewayv1.ReferenceGrant
	policies []*gatewayxv1alpha1.XBackendTrafficPolicy
}

func (o *objects) add(object client.Object) {
	switch object := object.(type) {
	case *corev1.Service:
		o.services = append(o.services, object)
	case *gatewayv1.HTTPRoute:
		o.http = append(o.http, object)
	case *gatewayv1.GRPCRoute:
		o.grpc = append(o.grpc, object)
	case *gatewayv1.ReferenceGrant:
		o.grants = append(o.grants, object)
	case *gatewayxv1alpha1.XBackendTrafficPolicy:
		o.policies = append(o.policies, object)
	}
}

// with is the cluster after the files are applied: an object of a file takes the place of the cluster's, with
// its address and its age, and one that is new is younger than all.
func (o objects) with(files []*fileObject) objects {
	out := objects{}
	newest := o.newest()
	names := map[string]client.Object{}
	for _, f := range files {
		names[f.String()] = f.Object
	}
	keep(&out, o.services, "Service", names)
	keep(&out, o.http, string(mesh.HTTPRoute), names)
	keep(&out, o.grpc, string(mesh.GRPCRoute), names)
	keep(&out, o.grants, "ReferenceGrant", names)
	keep(&out, o.policies, policyKind, names)
	for _, f := range files {
		if f.GetCreationTimestamp() == (metav1.Time{}) && !newest.IsZero() {
			f.SetCreationTimestamp(metav1.NewTime(newest.Add(time.Second)))
		}
		out.add(f.Object)
	}
	return out
}

// keep adds the objects that no file holds; those that one does give it what the server has set.
func keep[T client.Object](out *objects, list []T, kind string, names map[string]client.Object) {
	for _, old := range list {
		replaced := names[objectName(kind, old)]
		if replaced == nil {
			out.add(old)
			continue
		}
		replaced.SetCreationTimestamp(old.GetCreationTimestamp())
		if svc, ok := replaced.(*corev1.Service); ok && len(svc.Spec.ClusterIPs) == 0 && svc.Spec.ClusterIP == "" {
			svc.Spec.ClusterIPs = any(old).(*corev1.Service).Spec.ClusterIPs
		}
	}
}

func (o objects) newest() time.Time {
	var newest time.Time
	look := func(t metav1.Time) {
		if t.After(newest) {
			newest = t.Time
		}
	}
	for _, r := range o.http {
		look(r.CreationTimestamp)
	}
	for _, r := range o.grpc {
		look(r.CreationTimestamp)
	}
	for _, p := range o.policies {
		look(p.CreationTimestamp)
	}
	return newest
}

// world is objects as the mesh sees them.
type world struct {
	objects
	// built are the Services of the model, nil for one that the model has not.
	built    map[mesh.Key]*mesh.Service
	problems map[mesh.Key][]mesh.Problem
	source   map[mesh.Key]*corev1.Service
	// targeted are the statuses of policies, by the Service that they target.
	targeted map[mesh.Key][]mesh.PolicyStatus
	// httpByParent and grpcByParent save reading every route for every Service.
	httpByParent map[mesh.Key][]*gatewayv1.HTTPRoute
	grpcByParent map[mesh.Key][]*gatewayv1.GRPCRoute
}

// noAddress stands for the address that a Service of a file has not been given yet.
const noAddress = "0.0.0.0"

func newWorld(o objects, cfg *config.Mesh) *world {
	w := &world{
		objects: o, built: map[mesh.Key]*mesh.Service{}, problems: map[mesh.Key][]mesh.Problem{}, source: map[mesh.Key]*corev1.Service{},
		targeted:     map[mesh.Key][]mesh.PolicyStatus{},
		httpByParent: map[mesh.Key][]*gatewayv1.HTTPRoute{}, grpcByParent: map[mesh.Key][]*gatewayv1.GRPCRoute{},
	}
	opt := mesh.Options{OpaquePorts: cfg.Detection.OpaquePorts}
	for _, svc := range o.services {
		key := mesh.Key{Namespace: svc.Namespace, Name: svc.Name}
		w.source[key] = svc
		w.built[key], w.problems[key] = mesh.BuildService(withAddress(svc), opt)
	}
	for _, p := range o.policies {
		for _, target := range mesh.TrafficPolicyTargets(p) {
			if w.targeted[target] == nil {
				w.applyPolicies(target)
			}
		}
	}
	for _, r := range o.http {
		for _, parent := range mesh.HTTPRouteRefs(r).Parents {
			w.httpByParent[parent] = append(w.httpByParent[parent], r)
		}
	}
	for _, r := range o.grpc {
		for _, parent := range mesh.GRPCRouteRefs(r).Parents {
			w.grpcByParent[parent] = append(w.grpcByParent[parent], r)
		}
	}
	return w
}

// applyPolicies puts the policy that holds into the Service.
func (w *world) applyPolicies(target mesh.Key) {
	svc := w.built[target]
	var holds mesh.TrafficPolicy
	holds, w.targeted[target] = mesh.BuildTrafficPolicies(target, svc, w.policies)
	if svc != nil {
		svc.Traffic = holds
	}
}

// withAddress fills in the address that the API server will give.
func withAddress(svc *corev1.Service) *corev1.Service {
	if svc.Spec.Type == corev1.ServiceTypeExternalName || len(svc.Spec.ClusterIPs) > 0 {
		return svc
	}
	svc = svc.DeepCopy()
	svc.Spec.ClusterIPs = []string{cmp.Or(svc.Spec.ClusterIP, noAddress)}
	return svc
}

// inputs are what the rules of a Service are built from.
func (w *world) inputs(parent mesh.Key) mesh.RouteInputs {
	return mesh.RouteInputs{
		HTTPRoutes: w.httpByParent[parent], GRPCRoutes: w.grpcByParent[parent], Grants: w.grants, Services: w.built,
	}
}

// parents are the Services that routes name, whether they exist or not, in the order of their names.
func (w *world) parents() []mesh.Key {
	var out []mesh.Key
	for key := range w.httpByParent {
		out = append(out, key)
	}
	for key := range w.grpcByParent {
		if w.httpByParent[key] == nil {
			out = append(out, key)
		}
	}
	sortKeys(out)
	return out
}

func sortKeys(keys []mesh.Key) {
	slices.SortFunc(keys, func(a, b mesh.Key) int { return cmp.Compare(a.String(), b.String()) })
}

// httpRoute and grpcRoute find an object by its name, nil if there is none.
func (w *world) httpRoute(id mesh.RouteID) *gatewayv1.HTTPRoute {
	i := slices.IndexFunc(w.http, func(r *gatewayv1.HTTPRoute) bool {
		return id == mesh.RouteID{Kind: mesh.HTTPRoute, Key: mesh.Key{Namespace: r.Namespace, Name: r.Name}}
	})
	if i < 0 {
		return nil
	}
	return w.http[i]
}

func (w *world) grpcRoute(id mesh.RouteID) *gatewayv1.GRPCRoute {
	i := slices.IndexFunc(w.grpc, func(r *gatewayv1.GRPCRoute) bool {
		return id == mesh.RouteID{Kind: mesh.GRPCRoute, Key: mesh.Key{Namespace: r.Namespace, Name: r.Name}}
	})
	if i < 0 {
		return nil
	}
	return w.grpc[i]
}

// faults of a route, whatever its parents are.
func (w *world) faults(id mesh.RouteID) []mesh.Fault {
	if r := w.httpRoute(id); r != nil {
		return mesh.HTTPRouteFaults(r)
	}
	if r := w.grpcRoute(id); r != nil {
		return mesh.GRPCRouteFaults(r)
	}
	return nil
}
