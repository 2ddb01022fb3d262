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
	"github.com/mizzen-mesh/mizzen/xds/translate"
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
	keep(&out, o.http, string(mesh.KindHTTPRoute), names)
	keep(&out, o.grpc, string(mesh.KindGRPCRoute), names)
	keep(&out, o.tls, string(mesh.KindTLSRoute), names)
	keep(&out, o.tcp, string(mesh.KindTCPRoute), names)
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
	*translate.Translator
	result *translate.Result
	source map[mesh.Key]*corev1.Service
}

// noAddress stands for the address that a Service of a file has not been given yet.
const noAddress = "0.0.0.0"

func newWorld(o objects, cfg *config.Mesh) *world {
	w := &world{objects: o, Translator: translate.New(cfg), source: map[mesh.Key]*corev1.Service{}}
	for _, svc := range o.services {
		w.source[mesh.Key{Namespace: svc.Namespace, Name: svc.Name}] = svc
		w.Set(withAddress(svc))
	}
	set(w, o.http)
	set(w, o.grpc)
	set(w, o.tls)
	set(w, o.tcp)
	set(w, o.grants)
	set(w, o.policies)
	w.result = w.Build()
	return w
}

func set[T client.Object](w *world, list []T) {
	for _, o := range list {
		w.Set(o)
	}
}

// problems are those of a Service itself.
func (w *world) problems(service mesh.Key) []mesh.Problem {
	return w.result.Problems[mesh.ID{Kind: mesh.KindService, Key: service}]
}

// routes are the statuses of the routes that name a Service as a parent, and targeted those of the policies that target it.
func (w *world) routes(service mesh.Key) []mesh.Status {
	return slices.DeleteFunc(slices.Clone(w.result.Statuses[service]), func(s mesh.Status) bool { return s.Object.Kind == mesh.KindTrafficPolicy })
}

func (w *world) targeted(service mesh.Key) []mesh.Status {
	return slices.DeleteFunc(slices.Clone(w.result.Statuses[service]), func(s mesh.Status) bool { return s.Object.Kind != mesh.KindTrafficPolicy })
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

// parents are the Services that routes name, whether they exist or not, in the order of their names.
func (w *world) parents() []mesh.Key {
	var out []mesh.Key
	for key := range w.result.Statuses {
		if len(w.routes(key)) > 0 {
			out = append(out, key)
		}
	}
	sortKeys(out)
	return out
}

func sortKeys(keys []mesh.Key) {
	slices.SortFunc(keys, func(a, b mesh.Key) int { return cmp.Compare(a.String(), b.String()) })
}

// route finds an object by its name, nil if there is none.
func (w *world) route(id mesh.ID) client.Object {
	switch id.Kind {
	case mesh.KindHTTPRoute:
		return named(w.http, id.Key)
	case mesh.KindGRPCRoute:
		return named(w.grpc, id.Key)
	case mesh.KindTLSRoute:
		return named(w.tls, id.Key)
	case mesh.KindTCPRoute:
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
func (w *world) faults(id mesh.ID) []mesh.Fault {
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
