package translate

import (
	"maps"
	"math"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Translator holds the current objects and what was built of them. It is not safe for use by several goroutines.
type Translator struct {
	cfg      *config.Mesh
	settings mesh.Options
	// check returns why Envoy would refuse resources: envoy.Check.
	check func([]envoy.Resource) error

	// The current objects.
	parsed     map[mesh.Key]parsedService
	slices     map[mesh.Key]map[mesh.Key]*discoveryv1.EndpointSlice // by Service
	serviceOf  map[mesh.Key]mesh.Key                                // of each EndpointSlice
	cidrs      map[string]*networkingv1.ServiceCIDR
	zones      map[string]string // of the nodes that have one
	pods       *mesh.Pods        // nil in a mesh without identities
	namespaces map[string]config.MTLS
	declared   byNamespace[mesh.Declared] // the protocols that Services declare for their pods
	policies   byNamespace[mesh.PodPolicy]
	grants     byNamespace[*gatewayv1.ReferenceGrant]
	objects    map[mesh.ID]metav1.Object // routes and policies
	depend     *dependencies
	addresses  addresses
	gateways   gateways

	// What was built of them.
	baseBuilt    bool // the resources that need the configuration alone
	services     map[mesh.Key]*builtService
	protocols    *envoy.ProtocolTable // of all services
	inbounds     *inbounds
	policyStatus map[mesh.Key]mesh.Status // of AuthorizationPolicies
	// reconnectPending are Services whose callers must connect again, but not yet.
	reconnectPending sets.Set[mesh.Key]

	changed changed
	// held are the Services that Build builds. listenerHeld is set if it must build the outbound listener.
	held         sets.Set[mesh.Key]
	listenerHeld bool
	// lagging are Services that Build has left as they are until their EndpointSlices follow; overdue are those that wait no longer.
	lagging, overdue sets.Set[mesh.Key]
}

// changed collects what the next Urgent or Build looks at.
type changed struct {
	pods      sets.Set[mesh.Key]   // whose class has to be computed again
	gone      []*mesh.Pod          // with their UID
	addrs     sets.Set[netip.Addr] // whose pods have changed
	asked     sets.Set[netip.AddrPort]
	unasked   sets.Set[netip.AddrPort]
	endpoints sets.Set[mesh.Key] // of these Services
	policies  sets.Set[string]   // namespaces whose AuthorizationPolicies may have another effect
	deleted   []mesh.ID          // AuthorizationPolicies
	zones     map[string]string  // of nodes
	problems  map[mesh.ID][]mesh.Problem
	held      bool
}

func newChanged() changed {
	return changed{
		pods: sets.Set[mesh.Key]{}, addrs: sets.Set[netip.Addr]{}, asked: sets.Set[netip.AddrPort]{}, unasked: sets.Set[netip.AddrPort]{},
		endpoints: sets.Set[mesh.Key]{}, policies: sets.Set[string]{}, problems: map[mesh.ID][]mesh.Problem{},
		zones: map[string]string{},
	}
}

// New returns a Translator without objects.
func New(cfg *config.Mesh) *Translator {
	t := &Translator{
		cfg: cfg, settings: mesh.Options{OpaquePorts: cfg.Detection.OpaquePorts, ServiceCIDRs: cfg.ServiceCIDRs}, check: envoy.Check,
		parsed: map[mesh.Key]parsedService{}, slices: map[mesh.Key]map[mesh.Key]*discoveryv1.EndpointSlice{}, serviceOf: map[mesh.Key]mesh.Key{},
		cidrs: map[string]*networkingv1.ServiceCIDR{}, zones: map[string]string{}, namespaces: map[string]config.MTLS{}, declared: byNamespace[mesh.Declared]{},
		policies: byNamespace[mesh.PodPolicy]{}, grants: byNamespace[*gatewayv1.ReferenceGrant]{}, objects: map[mesh.ID]metav1.Object{},
		depend: newDependencies(), addresses: addresses{wanted: multimap[netip.Addr, uint16]{}}, gateways: newGateways(),
		services: map[mesh.Key]*builtService{}, protocols: envoy.NewProtocolTable(), inbounds: newInbounds(), policyStatus: map[mesh.Key]mesh.Status{},
		reconnectPending: sets.Set[mesh.Key]{}, changed: newChanged(), held: sets.Set[mesh.Key]{}, lagging: sets.Set[mesh.Key]{}, overdue: sets.Set[mesh.Key]{},
	}
	if cfg.MTLS.On() {
		t.pods = mesh.NewPods(cfg.MTLS.TrustDomain)
	}
	return t
}

// Set adds an object, or replaces the one of its kind and name. The object must not change afterwards. Set does not change
// it, so it may be a cache's own.
func (t *Translator) Set(object metav1.Object) {
	id, ok := IDOf(object)
	if !ok || t.ignores(id.Kind) {
		return
	}
	switch o := object.(type) {
	case *corev1.Service:
		t.setService(o)
	case *discoveryv1.EndpointSlice:
		t.setSlice(o)
	case *networkingv1.ServiceCIDR:
		t.cidrs[o.Name] = o
		t.holdListener()
	case *corev1.Pod:
		t.setPod(mesh.BuildPod(o))
	case *corev1.Namespace:
		t.setNamespace(&metav1.PartialObjectMetadata{ObjectMeta: o.ObjectMeta})
	case *corev1.Node:
		t.setZone(id.Name, o.Labels[corev1.LabelTopologyZone])
	case *metav1.PartialObjectMetadata:
		if id.Kind == mesh.KindNode {
			t.setZone(id.Name, o.Labels[corev1.LabelTopologyZone])
		} else {
			t.setNamespace(o)
		}
	case *gatewayv1.GatewayClass:
		t.setClass(id.Name, o)
	case *corev1.Secret:
		t.gateways.secrets[id.Key] = o
		t.refChanged(id)
	case *corev1.ConfigMap:
		t.gateways.configMaps[id.Key] = o
		t.refChanged(id)
	case *gatewayv1.ReferenceGrant:
		t.grants.set(id.Key, o)
		t.hold(t.depend.ofGrants(id.Namespace)...)
		t.grantsChanged(id.Namespace)
	case *gatewayv1beta1.ReferenceGrant:
		t.Set((*gatewayv1.ReferenceGrant)(o))
	default:
		t.setObject(id, o)
	}
}

// ignores reports whether nothing depends on objects of a kind: pods in a mesh without identities.
func (t *Translator) ignores(k mesh.Kind) bool {
	return t.pods == nil && k == mesh.KindPod
}

// Delete removes an object.
func (t *Translator) Delete(id mesh.ID) {
	if t.ignores(id.Kind) {
		return
	}
	switch id.Kind {
	case mesh.KindService:
		t.deleteService(id.Key)
	case mesh.KindEndpointSlice:
		t.deleteSlice(id.Key)
	case mesh.KindServiceCIDR:
		delete(t.cidrs, id.Name)
		t.holdListener()
	case mesh.KindPod:
		t.deletePod(id.Key)
	case mesh.KindNode:
		t.setZone(id.Name, "")
	case mesh.KindNamespace:
		delete(t.namespaces, id.Name)
		t.setNamespaceLabels(id.Name, nil)
		t.changed.problems[id] = nil
		t.changePodsIn(id.Name)
	case mesh.KindGatewayClass:
		t.setClass(id.Name, nil)
	case mesh.KindSecret:
		delete(t.gateways.secrets, id.Key)
		t.refChanged(id)
	case mesh.KindConfigMap:
		delete(t.gateways.configMaps, id.Key)
		t.refChanged(id)
	case mesh.KindReferenceGrant:
		t.grants.delete(id.Key)
		t.hold(t.depend.ofGrants(id.Namespace)...)
		t.grantsChanged(id.Namespace)
	default:
		t.setObject(id, nil)
	}
}

// setObject takes a route or policy; now is nil if it was deleted.
func (t *Translator) setObject(id mesh.ID, now metav1.Object) {
	before := t.objects[id]
	if now == nil {
		delete(t.objects, id)
	} else {
		t.objects[id] = now
		if before != nil && mesh.SameIntent(before, now) {
			return
		}
	}
	switch id.Kind {
	case mesh.KindTrafficPolicy:
		var targets []mesh.Key
		if o, ok := now.(*gatewayxv1alpha1.XBackendTrafficPolicy); ok {
			targets = mesh.TrafficPolicyTargets(o)
		}
		t.holdServices(t.depend.setPolicy(id, targets)...)
	case mesh.KindBackendTLSPolicy:
		var targets []mesh.Key
		var refs []mesh.ID
		if o, ok := now.(*gatewayv1.BackendTLSPolicy); ok {
			targets, refs = mesh.BackendTLSTargets(o), mesh.BackendTLSRefs(o)
		}
		t.setRefs(id, refs)
		t.holdServices(t.depend.setPolicy(id, targets)...)
	case mesh.KindGateway:
		t.setGateway(id, as[*gatewayv1.Gateway](now))
	case mesh.KindListenerSet:
		t.setListenerSet(id, as[*gatewayv1.ListenerSet](before), as[*gatewayv1.ListenerSet](now))
	case mesh.KindAuthorizationPolicy:
		t.setAuthorization(id, now)
	default:
		t.setRoute(id, refsOf(now))
	}
}

// setRoute takes what a route names.
func (t *Translator) setRoute(id mesh.ID, now mesh.RouteRefs) {
	before := t.depend.setRoute(id, now)
	t.gateways.changed.Insert(id)
	t.hold(slices.Concat(before.Parents, now.Parents)...)
	t.holdGateways(t.gatewayKeys(slices.Concat(before.Gateways, now.Gateways))...)
	if !slices.Equal(before.Gateways, now.Gateways) || (len(now.Gateways) > 0 && !slices.Equal(before.Backends, now.Backends)) {
		t.hold(slices.Concat(before.Backends, now.Backends)...) // of whose clusters some are for gateways
	}
}

// holdServices marks Services, and the Services and Gateways with routes that send to them.
func (t *Translator) holdServices(keys ...mesh.Key) {
	for _, key := range keys {
		t.hold(t.depend.ofService(key)...)
		t.holdRoutes(t.depend.byBackend[key])
	}
}

// refsOf returns the Services that a route names, or nothing if the route does not exist.
func refsOf(o metav1.Object) mesh.RouteRefs {
	switch o := o.(type) {
	case *gatewayv1.HTTPRoute:
		return mesh.HTTPRouteRefs(o)
	case *gatewayv1.GRPCRoute:
		return mesh.GRPCRouteRefs(o)
	case *gatewayv1.TLSRoute:
		return mesh.TLSRouteRefs(o)
	case *gatewayv1.TCPRoute:
		return mesh.TCPRouteRefs(o)
	case *gatewayv1.UDPRoute:
		return mesh.UDPRouteRefs(o)
	}
	return mesh.RouteRefs{}
}

// hold marks Services for the next Build.
func (t *Translator) hold(keys ...mesh.Key) {
	t.held.Insert(keys...)
	t.lagging.Delete(keys...)
	t.changed.held = t.changed.held || len(keys) > 0
}

// holdListener marks the outbound listener for the next Build.
func (t *Translator) holdListener() { t.listenerHeld, t.changed.held = true, true }

// HeldCount returns the number of Services that Build has to build.
func (t *Translator) HeldCount() int { return len(t.held) }

// Waiting reports whether there is something for Build to do.
func (t *Translator) Waiting() bool { return len(t.held)+len(t.gateways.held) > 0 || t.listenerHeld }

// ServiceCount returns the number of Services in the mesh.
func (t *Translator) ServiceCount() int { return len(t.services) }

// Urgent returns what cannot wait for a time without changes: endpoints of Services that are published, what pods accept, and
// the identities at addresses that are asked for. held reports whether a change since the last result waits for Build.
func (t *Translator) Urgent() (now *Result, held bool) {
	r := newResult()
	t.urgent(r, false)
	held, t.changed = t.changed.held, newChanged()
	return r, held
}

func (t *Translator) urgent(r *Result, building bool) {
	t.updateRefs()
	t.classify(r)
	r.Change.Zones = t.changed.zones
	t.podAddresses(r)
	t.publishEndpoints(r, building)
	t.policyStatuses(r)
	r.Problems = t.changed.problems
}

// Build returns everything that has changed since the last result, and builds what is held.
func (t *Translator) Build() *Result { return t.BuildInParts(math.MaxInt, nil) }

// BuildInParts is Build for a start, whose resources may be many times as large in memory as they are marshalled: those of each n
// Services are handed to publish as soon as they are built, and the result has the rest. No sidecar may be served meanwhile.
func (t *Translator) BuildInParts(n int, publish func(envoy.Change)) *Result {
	r := newResult()
	if !t.baseBuilt {
		r.Change.Set = envoy.BaseClusters(t.cfg)
		if t.pods == nil {
			r.Change.Set = append(r.Change.Set, envoy.InboundListeners()...)
		}
		t.baseBuilt = true
	}
	t.urgent(r, true)
	t.setLagging()
	held := slices.SortedFunc(maps.Keys(t.held), mesh.Key.Compare)
	for len(held) > 0 {
		part := held[:min(n, len(held))]
		held = held[len(part):]
		t.buildAll(part, r)
		if len(held) > 0 {
			publish(r.Change)
			r.Change = envoy.Change{}
		}
	}
	t.buildGateways(r)
	r.Change.Set = append(r.Change.Set, t.outboundListeners()...)
	routes, gone := t.protocols.Routes.Resources(t.cfg)
	r.Change.Set, r.Change.Remove = append(r.Change.Set, routes...), append(r.Change.Remove, gone...)
	t.listenerHeld, t.changed = false, newChanged()
	t.changed.endpoints.Insert(slices.Collect(maps.Keys(r.Errors))...) // they waited for a Service that could not be built
	return r
}

// buildAll builds Services. Each of them is built with what the others are published with before any of them is replaced.
func (t *Translator) buildAll(keys []mesh.Key, r *Result) {
	seen := buildCache{}
	built := map[mesh.Key]*builtService{}
	for _, key := range keys {
		now, err := t.build(key, seen)
		if err != nil {
			r.Errors[key] = err
			continue
		}
		built[key] = now
	}
	for key, now := range built {
		t.replace(key, now, r)
		t.held.Delete(key)
		t.overdue.Delete(key)
	}
}

func (t *Translator) outboundListeners() []envoy.Resource {
	models := make([]*mesh.Service, 0, len(t.services))
	for _, built := range t.services {
		models = append(models, built.model)
	}
	ranges := mesh.ServiceCIDRs(slices.Collect(maps.Values(t.cidrs)), models, t.settings)
	var pods []netip.Prefix
	if t.pods != nil {
		pods = t.pods.Ranges()
	}
	return t.addresses.withRanges(pods, func(pods []netip.Prefix) []envoy.Resource {
		return envoy.OutboundListeners(t.protocols, ranges, pods, t.cfg)
	})
}
