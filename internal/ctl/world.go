package ctl

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/translate"
)

// objects are what the rules of Services and Gateways are built from.
type objects []client.Object

// of returns the objects of a type.
func of[T client.Object](o objects) []T {
	var out []T
	for _, object := range o {
		if typed, ok := object.(T); ok {
			out = append(out, typed)
		}
	}
	return out
}

// with is the cluster after the files are applied: an object of a file takes the place of the cluster's, with
// its address and its age, and one that is new is younger than all.
func (o objects) with(files []*fileObject) objects {
	newest := o.newest()
	replaced := map[mesh.ID]client.Object{}
	var added objects
	for _, f := range files {
		object := f.part()
		if object == nil {
			continue
		}
		replaced[f.id()] = object
		added = append(added, object)
	}
	var out objects
	for _, old := range o {
		id, _ := translate.IDOf(old)
		if now := replaced[id]; now != nil {
			inherit(now, old)
			continue
		}
		out = append(out, old)
	}
	for _, object := range added {
		if object.GetCreationTimestamp() == (metav1.Time{}) && !newest.IsZero() {
			object.SetCreationTimestamp(metav1.NewTime(newest.Add(time.Second)))
		}
	}
	return append(out, added...)
}

// part returns the object as the mesh is built from it, or nil if it is not.
func (o *fileObject) part() client.Object {
	if o.kind == string(mesh.KindNamespace) {
		return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.GetName(), Labels: o.GetLabels()}}
	}
	if _, judges := o.Object.(*v1alpha1.AuthorizationPolicy); judges { // calls that have arrived
		return nil
	}
	if _, ok := translate.IDOf(o.Object); !ok {
		return nil
	}
	return o.Object
}

func (o *fileObject) id() mesh.ID {
	return mesh.ID{Kind: mesh.Kind(o.kind), Key: mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()}}
}

// inherit gives the object of a file what the server has set.
func inherit(now, old client.Object) {
	now.SetCreationTimestamp(old.GetCreationTimestamp())
	if svc, ok := now.(*corev1.Service); ok && len(svc.Spec.ClusterIPs) == 0 && svc.Spec.ClusterIP == "" {
		svc.Spec.ClusterIPs = old.(*corev1.Service).Spec.ClusterIPs
	}
}

func (o objects) newest() time.Time {
	var newest time.Time
	for _, object := range o {
		if t := object.GetCreationTimestamp(); t.After(newest) {
			newest = t.Time
		}
	}
	return newest
}

// world is objects as the mesh sees them.
type world struct {
	objects
	*translate.Translator
	result *translate.Result
	source map[mesh.Key]*corev1.Service
	byID   map[mesh.ID]client.Object
	cfg    *config.Mesh
	built  map[mesh.Key]builtGateway
	// assumed are Secrets and ConfigMaps for which something else stands.
	assumed sets.Set[mesh.ID]
}

// builtGateway is what the pods of a Gateway serve, and what it is built from.
type builtGateway struct {
	model mesh.Gateway
	in    mesh.GatewayInputs
	err   error
	// assumed are those of the world.
	assumed sets.Set[mesh.ID]
}

// gateway returns one of Gateways.
func (w *world) gateway(key mesh.Key) builtGateway {
	built, ok := w.built[key]
	if !ok {
		built.model, built.in, built.err = w.Gateway(key)
		built.assumed = w.assumed
		w.built[key] = built
	}
	return built
}

// noAddress stands for the address that a Service of a file has not been given yet.
const noAddress = "0.0.0.0"

func newWorld(o objects, cfg *config.Mesh) *world {
	w := &world{
		objects: o, Translator: translate.New(cfg), source: map[mesh.Key]*corev1.Service{}, byID: map[mesh.ID]client.Object{},
		cfg: cfg, built: map[mesh.Key]builtGateway{},
	}
	for _, object := range o {
		id, _ := translate.IDOf(object)
		w.byID[id] = object
		switch object := object.(type) {
		case *corev1.Service:
			w.source[id.Key] = object
			w.Set(withAddress(object))
		case *corev1.Namespace:
			w.Set(withName(object))
		default:
			w.Set(object)
		}
	}
	w.result = w.Build()
	return w
}

// problems are those of a Service itself.
func (w *world) problems(service mesh.Key) []mesh.Problem {
	return w.result.Problems[mesh.ID{Kind: mesh.KindService, Key: service}]
}

// routes are the statuses of the routes that name a Service as a parent.
func (w *world) routes(service mesh.Key) []mesh.Status {
	return w.statuses(service, func(k mesh.Kind) bool { return k != mesh.KindTrafficPolicy && k != mesh.KindBackendTLSPolicy })
}

// targeted are the statuses of the policies of a kind that target a Service.
func (w *world) targeted(service mesh.Key, kind mesh.Kind) []mesh.Status {
	return w.statuses(service, func(k mesh.Kind) bool { return k == kind })
}

func (w *world) statuses(service mesh.Key, of func(mesh.Kind) bool) []mesh.Status {
	return slices.DeleteFunc(slices.Clone(w.result.Statuses[mesh.ID{Kind: mesh.KindService, Key: service}]), func(s mesh.Status) bool { return !of(s.Object.Kind) })
}

// captured returns a Service whose calls sidecars recognize, or nil. Gateways call others, too.
func (w *world) captured(key mesh.Key) *mesh.Service {
	if svc := w.Service(key); svc != nil && svc.Captured() {
		return svc
	}
	return nil
}

// withAddress fills in the address and the IP family that the API server will give.
func withAddress(svc *corev1.Service) *corev1.Service {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return svc
	}
	svc = svc.DeepCopy()
	if len(svc.Spec.ClusterIPs) == 0 {
		svc.Spec.ClusterIPs = []string{cmp.Or(svc.Spec.ClusterIP, noAddress)}
	}
	if len(svc.Spec.IPFamilies) == 0 {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	return svc
}

// withName fills in the label that the API server will give.
func withName(n *corev1.Namespace) *corev1.Namespace {
	n = n.DeepCopy()
	metav1.SetMetaDataLabel(&n.ObjectMeta, corev1.LabelMetadataName, n.Name)
	return n
}

// parents are the Services that routes name, whether they exist or not, in the order of their names.
func (w *world) parents() []mesh.Key {
	var out []mesh.Key
	for id := range w.result.Statuses {
		if id.Kind == mesh.KindService && len(w.routes(id.Key)) > 0 {
			out = append(out, id.Key)
		}
	}
	sortKeys(out)
	return out
}

func sortKeys(keys []mesh.Key) {
	slices.SortFunc(keys, func(a, b mesh.Key) int { return cmp.Compare(a.String(), b.String()) })
}

// faults of a route, whatever its parents are.
func (w *world) faults(id mesh.ID) []mesh.Fault {
	switch r := w.byID[id].(type) {
	case *gatewayv1.HTTPRoute:
		return mesh.HTTPRouteFaults(r)
	case *gatewayv1.GRPCRoute:
		return mesh.GRPCRouteFaults(r)
	case *gatewayv1.TLSRoute:
		return mesh.TLSRouteFaults(r)
	case *gatewayv1.TCPRoute:
		return mesh.TCPRouteFaults(r)
	case *gatewayv1.UDPRoute:
		return mesh.UDPRouteFaults(r)
	}
	return nil
}
