package ctl

import (
	"cmp"
	"maps"
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
	tls      []*gatewayv1.TLSRoute
	tcp      []*gatewayv1.TCPRoute
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
	case *gatewayv1.TLSRoute:
		o.tls = append(o.tls, object)
	case *gatewayv1.TCPRoute:
		o.tcp = append(o.tcp, object)
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
	keep(&out, o.tls, string(mesh.TLSRoute), names)
	keep(&out, o.tcp, string(mesh.TCPRoute), names)
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
	for _, r := range o.tls {
		look(r.CreationTimestamp)
	}
	for _, r := range o.tcp {
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
	// byParent saves reading every route for every Service: the routes of each.
	byParent map[mesh.Key]*mesh.RouteInputs
}

// noAddress stands for the address that a Service of a file has not been given yet.
const noAddress = "0.0.0.0"

func newWorld(o objects, cfg *config.Mesh) *world {
	w := &world{
		objects: o, built: map[mesh.Key]*mesh.Service{}, problems: map[mesh.Key][]mesh.Problem{}, source: map[mesh.Key]*corev1.Service{},
		targeted: map[mesh.Key][]mesh.PolicyStatus{}, byParent: map[mesh.Key]*mesh.RouteInputs{},
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
	attach := func(refs mesh.RouteRefs, add func(*mesh.RouteInputs)) {
		for _, parent := range refs.Parents {
			if w.byParent[parent] == nil {
				w.byParent[parent] = &mesh.RouteInputs{}
			}
			add(w.byParent[parent])
		}
	}
	for _, r := range o.http {
		attach(mesh.HTTPRouteRefs(r), func(in *mesh.RouteInputs) { in.HTTPRoutes = append(in.HTTPRoutes, r) })
	}
	for _, r := range o.grpc {
		attach(mesh.GRPCRouteRefs(r), func(in *mesh.RouteInputs) { in.GRPCRoutes = append(in.GRPCRoutes, r) })
	}
	for _, r := range o.tls {
		attach(mesh.TLSRouteRefs(r), func(in *mesh.RouteInputs) { in.TLSRoutes = append(in.TLSRoutes, r) })
	}
	for _, r := range o.tcp {
		attach(mesh.TCPRouteRefs(r), func(in *mesh.RouteInputs) { in.TCPRoutes = append(in.TCPRoutes, r) })
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
	var in mesh.RouteInputs
	if routes := w.byParent[parent]; routes != nil {
		in = *routes
	}
	in.Grants, in.Services = w.grants, w.built
	return in
}

// parents are the Services that routes name, whether they exist or not, in the order of their names.
func (w *world) parents() []mesh.Key {
	out := slices.Collect(maps.Keys(w.byParent))
	sortKeys(out)
	return out
}

func sortKeys(keys []mesh.Key) {
	slices.SortFunc(keys, func(a, b mesh.Key) int { return cmp.Compare(a.String(), b.String()) })
}

// route finds an object by its name, nil if there is none.
func (w *world) route(id mesh.RouteID) client.Object {
	switch id.Kind {
	case mesh.HTTPRoute:
		return named(w.http, id.Key)
	case mesh.GRPCRoute:
		return named(w.grpc, id.Key)
	case mesh.TLSRoute:
		return named(w.tls, id.Key)
	case mesh.TCPRoute:
		return named(w.tcp, id.Key)
	}
	return nil
}

func named[T client.Object](list []T, key mesh.Key) client.Object {
	i := slices.IndexFunc(list, func(o T) bool { return key == mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()} })
	if i < 0 {
		return nil
	}
	return list[i]
}

// faults of a route, whatever its parents are.
func (w *world) faults(id mesh.RouteID) []mesh.Fault {
	switch r := w.route(id).(type) {
	case *gatewayv1.HTTPRoute:
		return mesh.HTTPRouteFaults(r)
	case *gatewayv1.GRPCRoute:
		return mesh.GRPCRouteFaults(r)
	case *gatewayv1.TLSRoute:
		return mesh.TLSRouteFaults(r)
	case *gatewayv1.TCPRoute:
		return mesh.TCPRouteFaults(r)
	}
	return nil
}
