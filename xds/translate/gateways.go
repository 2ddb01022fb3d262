package translate

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// gateways is the state of Gateways. The Gateways and ListenerSets themselves are in Translator.objects.
type gateways struct {
	// classes are the GatewayClasses of our controller.
	classes map[string]*gatewayv1.GatewayClass
	// sets are the ListenerSets that name a Gateway.
	sets       multimap[mesh.Key, mesh.ID]
	secrets    map[mesh.Key]*corev1.Secret
	configMaps map[mesh.Key]*corev1.ConfigMap
	// refs are the Secrets and ConfigMaps that an object names, and byRef the objects that name one.
	refs  map[mesh.ID][]mesh.ID
	byRef multimap[mesh.ID, mesh.ID]
	// namespaces has the labels of each.
	namespaces map[string]labels.Set
	// services are all, service has the one of each Gateway, and byService the Gateways of one.
	services  map[mesh.Key]*corev1.Service
	service   map[mesh.Key]mesh.Key
	byService multimap[mesh.Key, mesh.Key]
	// built has what is published for each Gateway of our controller.
	built map[mesh.Key]*builtGateway
	held  sets.Set[mesh.Key]
	// parameters are those of each that were valid last.
	parameters map[mesh.Key]config.GatewayParameters
	// changed are routes that the next Build has to build again, with all Gateways that they name.
	changed sets.Set[mesh.ID]
}

// builtGateway is a Gateway as it is published.
type builtGateway struct {
	published []envoy.ID
	hosts     envoy.BuiltHosts
	routes    map[mesh.ID]*mesh.BuiltRoute
	// refused are those of routes that Envoy would refuse even without the others, with the reason.
	refused map[mesh.ID]string
}

func newGateways() gateways {
	return gateways{
		classes: map[string]*gatewayv1.GatewayClass{}, sets: multimap[mesh.Key, mesh.ID]{}, secrets: map[mesh.Key]*corev1.Secret{},
		configMaps: map[mesh.Key]*corev1.ConfigMap{}, refs: map[mesh.ID][]mesh.ID{}, byRef: multimap[mesh.ID, mesh.ID]{},
		namespaces: map[string]labels.Set{}, services: map[mesh.Key]*corev1.Service{}, service: map[mesh.Key]mesh.Key{}, byService: multimap[mesh.Key, mesh.Key]{},
		parameters: map[mesh.Key]config.GatewayParameters{}, built: map[mesh.Key]*builtGateway{}, held: sets.Set[mesh.Key]{}, changed: sets.Set[mesh.ID]{},
	}
}

// setClass takes a GatewayClass; now is nil if it was deleted.
func (t *Translator) setClass(name string, now *gatewayv1.GatewayClass) {
	var refs []mesh.ID
	delete(t.gateways.classes, name)
	if now != nil && now.Spec.ControllerName == config.ControllerName {
		t.gateways.classes[name] = now
		refs = mesh.GatewayClassRefs(now)
	}
	t.setRefs(mesh.ID{Kind: mesh.KindGatewayClass, Key: mesh.Key{Name: name}}, refs)
	t.holdClass(name)
}

// holdClass holds the Gateways of a class.
func (t *Translator) holdClass(name string) {
	for id, o := range t.objects {
		if gw, ok := o.(*gatewayv1.Gateway); ok && string(gw.Spec.GatewayClassName) == name {
			t.holdWhole(id.Key)
		}
	}
}

// setGateway takes a Gateway; now is nil if it was deleted.
func (t *Translator) setGateway(id mesh.ID, now *gatewayv1.Gateway) {
	var refs []mesh.ID
	if now != nil {
		refs = mesh.GatewayRefs(now)
	}
	t.setRefs(id, refs)
	t.holdWhole(id.Key)
}

// setListenerSet takes a ListenerSet; now is nil if it was deleted.
func (t *Translator) setListenerSet(id mesh.ID, before, now *gatewayv1.ListenerSet) {
	if before != nil {
		if gateway, ok := mesh.ListenerSetParent(before); ok {
			t.holdWhole(gateway)
			t.gateways.sets.delete(gateway, id)
		}
	}
	var refs []mesh.ID
	if now != nil {
		refs = mesh.ListenerSetRefs(now)
		if gateway, ok := mesh.ListenerSetParent(now); ok {
			t.gateways.sets.insert(gateway, id)
			t.holdWhole(gateway)
		}
	}
	t.setRefs(id, refs)
}

// setRefs records the Secrets and ConfigMaps that an object names.
func (t *Translator) setRefs(from mesh.ID, now []mesh.ID) {
	for _, ref := range t.gateways.refs[from] {
		t.gateways.byRef.delete(ref, from)
	}
	for _, ref := range now {
		t.gateways.byRef.insert(ref, from)
	}
	if t.gateways.refs[from] = now; len(now) == 0 {
		delete(t.gateways.refs, from)
	}
}

// refChanged holds what depends on a Secret or a ConfigMap.
func (t *Translator) refChanged(ref mesh.ID) {
	for from := range t.gateways.byRef[ref] {
		t.referrerChanged(from)
	}
}

func (t *Translator) referrerChanged(from mesh.ID) {
	switch from.Kind {
	case mesh.KindGateway:
		t.holdWhole(from.Key)
	case mesh.KindGatewayClass:
		t.holdClass(from.Name)
	case mesh.KindListenerSet:
		if set, ok := t.objects[from].(*gatewayv1.ListenerSet); ok {
			if gateway, ok := mesh.ListenerSetParent(set); ok {
				t.holdGateways(gateway)
			}
		}
	case mesh.KindBackendTLSPolicy:
		for _, target := range t.depend.targets[from] {
			t.hold(target)
		}
	}
}

// setNamespaceLabels takes the labels of a namespace, by which Gateways choose routes and ListenerSets.
func (t *Translator) setNamespaceLabels(name string, now labels.Set) {
	before, known := t.gateways.namespaces[name]
	if t.gateways.namespaces[name] = now; now == nil {
		delete(t.gateways.namespaces, name)
	}
	if known == (now != nil) && maps.Equal(before, now) {
		return
	}
	for id := range t.objects {
		if id.Kind == mesh.KindGateway {
			t.holdGateways(id.Key)
		}
	}
}

// holdGateways marks Gateways for the next Build. Those of other controllers are not known.
func (t *Translator) holdGateways(keys ...mesh.Key) {
	for _, key := range keys {
		if t.gateways.built[key] != nil || t.ours(key) != nil {
			t.gateways.held.Insert(key)
			t.changed.held = true
		}
	}
}

// holdRoutes marks routes, and the Gateways that they name.
func (t *Translator) holdRoutes(ids sets.Set[mesh.ID]) {
	for id := range ids {
		t.gateways.changed.Insert(id)
	}
	t.holdGateways(t.gatewaysOf(ids)...)
}

// holdWhole marks a Gateway, its routes, and the Services behind it, of whose clusters some are for gateways.
func (t *Translator) holdWhole(gateway mesh.Key) {
	t.holdGateways(gateway)
	for id := range t.routesOfGateway(gateway) {
		t.gateways.changed.Insert(id)
		t.hold(t.depend.routes[id].Backends...)
	}
}

// ours returns a Gateway whose class is of our controller, or nil.
func (t *Translator) ours(key mesh.Key) *gatewayv1.Gateway {
	gw, _ := t.objects[mesh.ID{Kind: mesh.KindGateway, Key: key}].(*gatewayv1.Gateway)
	if gw == nil || t.gateways.classes[string(gw.Spec.GatewayClassName)] == nil {
		return nil
	}
	return gw
}

// routesOfGateway returns the routes that name a Gateway or one of its ListenerSets as a parent.
func (t *Translator) routesOfGateway(gateway mesh.Key) sets.Set[mesh.ID] {
	out := t.depend.byGateway[mesh.ID{Kind: mesh.KindGateway, Key: gateway}]
	for set := range t.gateways.sets[gateway] {
		out = out.Union(t.depend.byGateway[set])
	}
	return out
}

// gatewaysOf returns the Gateways of our controller among the parents of routes, sorted, each once.
func (t *Translator) gatewaysOf(routes sets.Set[mesh.ID]) []mesh.Key {
	out := sets.Set[mesh.Key]{}
	for id := range routes {
		out.Insert(t.gatewayKeys(t.depend.routes[id].Gateways)...)
	}
	return slices.SortedFunc(maps.Keys(out), mesh.Key.Compare)
}

// gatewayKeys returns the Gateways of our controller that are parents, themselves or by a ListenerSet.
func (t *Translator) gatewayKeys(parents []mesh.ID) []mesh.Key {
	var out []mesh.Key
	for _, parent := range parents {
		key := parent.Key
		if parent.Kind == mesh.KindListenerSet {
			set, ok := t.objects[parent].(*gatewayv1.ListenerSet)
			if !ok {
				continue
			}
			if key, ok = mesh.ListenerSetParent(set); !ok {
				continue
			}
		}
		if t.ours(key) != nil {
			out = append(out, key)
		}
	}
	return out
}

// grantsOf returns the grants in the namespaces of objects.
func (t *Translator) grantsOf(refs []mesh.ID) []*gatewayv1.ReferenceGrant {
	namespaces := sets.Set[string]{}
	for _, ref := range refs {
		namespaces.Insert(ref.Namespace)
	}
	var out []*gatewayv1.ReferenceGrant
	for namespace := range namespaces {
		out = slices.AppendSeq(out, t.grants.of(namespace))
	}
	return out
}

// grantsChanged holds the Gateways that depend on the grants of a namespace.
func (t *Translator) grantsChanged(namespace string) {
	t.holdRoutes(t.depend.byBackendNamespace[namespace])
	for from, refs := range t.gateways.refs {
		if slices.ContainsFunc(refs, func(ref mesh.ID) bool { return ref.Namespace == namespace }) {
			t.referrerChanged(from)
		}
	}
}

// as returns an object as the type, or nil.
func as[T metav1.Object](o metav1.Object) T {
	out, _ := o.(T)
	return out
}
