package translate

import (
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// parsedService is what mesh.BuildService returned.
type parsedService struct {
	// model is nil for a Service outside the mesh. Routes may still name it as a parent, and are refused.
	model *mesh.Service
	// uncaptured is the model for gateways of a Service outside the mesh (mesh.BuildUncaptured).
	uncaptured *mesh.Service
	problems   []mesh.Problem
}

// builtService is a Service with what is published for it.
type builtService struct {
	model                      *mesh.Service // nil for a Service outside the mesh; Translator.services does not have it
	rules                      map[uint16]mesh.PortRules
	resources                  []envoy.Resource
	published                  []envoy.ID
	served                     []servedPort // as published
	problems, endpointProblems []mesh.Problem
	statuses                   []mesh.Status
}

func (t *Translator) setService(o *corev1.Service) {
	key := mesh.Key{Namespace: o.Namespace, Name: o.Name}
	model, problems := mesh.BuildService(o, t.settings)
	parsed := parsedService{model: model, problems: problems}
	if model == nil {
		parsed.uncaptured = mesh.BuildUncaptured(o, t.settings)
	}
	t.parsed[key] = parsed
	t.declare(key, mesh.BuildDeclared(o, t.settings))
	t.holdServices(key)
	t.setGatewayService(key, o)
}

func (t *Translator) deleteService(key mesh.Key) {
	delete(t.parsed, key)
	t.declare(key, mesh.Declared{})
	t.declared.delete(key)
	t.holdServices(key)
	t.setGatewayService(key, nil)
}

// declare takes the protocols that a Service declares for its pods.
func (t *Translator) declare(key mesh.Key, now mesh.Declared) {
	if t.pods == nil {
		return
	}
	before := t.declared[key.Namespace][key]
	if reflect.DeepEqual(before, now) {
		return // as after a change of its status
	}
	t.declared.set(key, now)
	for pod := range t.pods.In(key.Namespace) {
		if before.Holds(pod) || now.Holds(pod) {
			t.changed.pods.Insert(pod.Key)
		}
	}
}

// build takes one Service through both stages.
func (t *Translator) build(key mesh.Key, seen buildCache) (*builtService, error) {
	in, read := t.inputs(key, seen)
	out, err := serviceBuilder{t.cfg, t.check}.service(key, read.model, in)
	if err != nil {
		return nil, err
	}
	return &builtService{
		model: read.model, problems: read.problems, endpointProblems: read.endpoints.problems,
		served: read.endpoints.served, rules: out.rules, statuses: slices.Concat(out.statuses, read.policies), resources: append(out.resources, read.endpoints.resources...),
	}, nil
}

// resolvedService is a Service with its traffic policies and, if it is held, its endpoints.
type resolvedService struct {
	exists bool
	// model is nil if the Service does not exist or is outside the mesh.
	model     *mesh.Service
	problems  []mesh.Problem
	policies  []mesh.Status    // the statuses of traffic policies
	endpoints serviceEndpoints // empty unless the Service is held
}

// buildCache holds what one Build needs of each Service. A mirror's cluster has the endpoints of another Service, and both
// clusters must know the same identities.
type buildCache map[mesh.Key]resolvedService

func (t *Translator) resolve(key mesh.Key, seen buildCache) resolvedService {
	if out, ok := seen[key]; ok {
		return out
	}
	out := t.resolveObjects(key)
	published := t.services[key]
	switch {
	case out.model == nil:
	case !t.held.Has(key) && published != nil:
		out.model.Identities, out.model.Policies = published.model.Identities, published.model.Policies
	default:
		out.endpoints = t.endpointsOf(out.model)
		out.model.Identities = out.endpoints.identities
		if t.pods != nil {
			out.model.Policies = t.policiesBehind(key)
		}
	}
	seen[key] = out
	return out
}

func (t *Translator) resolveObjects(key mesh.Key) resolvedService {
	parsed, exists := t.parsed[key]
	out := resolvedService{exists: exists, problems: parsed.problems}
	gateways := t.gatewaysOf(t.depend.byBackend[key])
	switch {
	case parsed.model != nil:
		out.model = new(*parsed.model)
	case parsed.uncaptured != nil && len(gateways) > 0:
		out.model = new(*parsed.uncaptured)
	}
	var traffic []*gatewayxv1alpha1.XBackendTrafficPolicy
	var tls []*gatewayv1.BackendTLSPolicy
	for policy := range t.depend.policiesOf(key) {
		switch o := t.objects[policy].(type) {
		case *gatewayxv1alpha1.XBackendTrafficPolicy:
			traffic = append(traffic, o)
		case *gatewayv1.BackendTLSPolicy:
			tls = append(tls, o)
		}
	}
	holds, statuses := mesh.BuildTrafficPolicies(key, parsed.model, traffic)
	ports, tlsStatuses := mesh.BuildBackendTLS(key, out.model, tls, t.gateways.configMaps, gateways)
	out.policies = slices.Concat(statuses, tlsStatuses)
	if out.model != nil {
		out.model.Traffic, out.model.BackendTLS, out.model.Gateways = holds, ports, len(gateways) > 0
		if len(ports) > 0 {
			out.model.ClientCertificates = t.clientCertificates(gateways)
		}
	}
	return out
}

// clientCertificates returns the Secrets that gateways show to backends, by owner.
func (t *Translator) clientCertificates(gateways []mesh.Key) map[string]string {
	out := map[string]string{}
	for _, key := range gateways {
		if gw := t.ours(key); gw != nil {
			grants := t.grantsOf(t.gateways.refs[mesh.ID{Kind: mesh.KindGateway, Key: key}])
			in := mesh.GatewayInputs{Gateway: gw, Secrets: t.gateways.secrets, NoIdentities: t.pods == nil, Routes: mesh.RouteInputs{Grants: grants}}
			if model := mesh.ClientCertificate(in); model.ClientCertificate != "" {
				out[model.Owner()] = model.ClientCertificate
			}
		}
	}
	return out
}

// inputs returns everything that the rules of a Service depend on, and the Service itself.
func (t *Translator) inputs(parent mesh.Key, seen buildCache) (mesh.RouteInputs, resolvedService) {
	in := t.routeInputs(t.depend.routesOf(parent), seen)
	read := t.resolve(parent, seen)
	if read.exists {
		in.Services[parent] = read.model
	}
	return in, read
}

// routeInputs returns routes with everything that they depend on.
func (t *Translator) routeInputs(routes sets.Set[mesh.ID], seen buildCache) mesh.RouteInputs {
	in := mesh.RouteInputs{Services: map[mesh.Key]*mesh.Service{}}
	namespaces := map[string]bool{}
	for id := range routes {
		switch o := t.objects[id].(type) {
		case *gatewayv1.HTTPRoute:
			in.HTTPRoutes = append(in.HTTPRoutes, o)
		case *gatewayv1.GRPCRoute:
			in.GRPCRoutes = append(in.GRPCRoutes, o)
		case *gatewayv1.TLSRoute:
			in.TLSRoutes = append(in.TLSRoutes, o)
		case *gatewayv1.TCPRoute:
			in.TCPRoutes = append(in.TCPRoutes, o)
		case *gatewayv1.UDPRoute:
			in.UDPRoutes = append(in.UDPRoutes, o)
		}
		for _, backend := range t.depend.routes[id].Backends {
			if svc := t.resolve(backend, seen); svc.exists {
				in.Services[backend] = svc.model
			}
			if !namespaces[backend.Namespace] {
				namespaces[backend.Namespace] = true
				in.Grants = slices.AppendSeq(in.Grants, t.grants.of(backend.Namespace))
			}
		}
	}
	return in
}

// replace adds to the result what one Service needs now, and removes what it no longer needs.
func (t *Translator) replace(key mesh.Key, now *builtService, r *Result) {
	if before := t.services[key]; before != nil {
		r.Change.Remove = append(r.Change.Remove, before.published...)
		t.protocols.Remove(before.model)
		delete(t.services, key)
	}
	t.protocols.Routes.Set(key, now.model, now.rules)
	r.Statuses[mesh.ID{Kind: mesh.KindService, Key: key}] = now.statuses
	if now.model != nil {
		for _, res := range now.resources {
			now.published = append(now.published, res.ID())
		}
		r.Change.Set = append(r.Change.Set, now.resources...)
		now.resources = nil // not needed once they are in the result
		t.services[key] = now
		t.protocols.Add(now.model)
	}
	r.Problems[mesh.ID{Kind: mesh.KindService, Key: key}] = now.allProblems()
}

// allProblems returns the problems of a Service and of its endpoints.
func (b *builtService) allProblems() []mesh.Problem {
	return slices.Concat(b.problems, b.endpointProblems)
}
