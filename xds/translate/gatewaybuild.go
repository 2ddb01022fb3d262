package translate

import (
	"maps"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// buildGateways builds the Gateways that are held, after the Services.
func (t *Translator) buildGateways(r *Result) {
	seen := buildCache{}
	for _, key := range slices.SortedFunc(maps.Keys(t.gateways.held), mesh.Key.Compare) {
		id := mesh.ID{Kind: mesh.KindGateway, Key: key}
		before := t.gateways.built[key]
		if before == nil {
			before = &builtGateway{}
		}
		gw := t.ours(key)
		if gw == nil {
			r.Change.Remove = append(r.Change.Remove, before.published...)
			delete(t.gateways.built, key)
			t.forgetParameters(key)
			r.Statuses[id], r.GatewayPorts[key] = nil, nil
			continue
		}
		out, err := t.buildGateway(gw, before, seen)
		if err != nil {
			r.GatewayErrors[key] = err
			before.routes, before.refused = nil, nil // those that have changed are not marked any more
			t.gateways.built[key] = before
			continue
		}
		now := sets.New(out.published...)
		r.Change.Remove = slices.AppendSeq(r.Change.Remove, func(yield func(envoy.ID) bool) {
			for _, id := range before.published {
				if !now.Has(id) && !yield(id) {
					return
				}
			}
		})
		r.Change.Set = append(r.Change.Set, out.changed...)
		t.gateways.built[key] = &out.builtGateway
		r.Statuses[id], r.GatewayPorts[key] = out.statuses, out.model.Ports
	}
	clear(t.gateways.held)
	clear(t.gateways.changed)
}

// translatedGateway is the result of both stages for one Gateway.
type translatedGateway struct {
	builtGateway
	// changed is what is published without virtual hosts that are as before.
	changed  []envoy.Resource
	statuses []mesh.Status
	model    mesh.Gateway
}

// buildGateway takes one Gateway through both stages, but for what before has and what is still right.
func (t *Translator) buildGateway(gw *gatewayv1.Gateway, before *builtGateway, seen buildCache) (translatedGateway, error) {
	try := func(in mesh.GatewayInputs, before envoy.BuiltHosts) (translatedGateway, error) {
		model, statuses, routes := mesh.BuildGateway(in)
		changed, hosts := envoy.GatewayChange(model, before, t.cfg)
		out := translatedGateway{builtGateway{slices.Collect(maps.Keys(hosts)), hosts, routes, in.Routes.Refused}, changed, statuses, model}
		for _, res := range changed {
			if hosts[res.ID()] == nil {
				out.published = append(out.published, res.ID())
			}
		}
		return out, t.check(changed)
	}
	in := t.gatewayInputs(gw, before.routes, seen)
	in.Routes.Refused = map[mesh.ID]string{}
	for id, why := range before.refused {
		if in.Built[id] != nil {
			in.Routes.Refused[id] = why
		}
	}
	if out, err := try(in, before.hosts); err == nil {
		return out, nil
	}
	maps.Copy(in.Routes.Refused, refusedAlone(in.Routes, func(routes mesh.RouteInputs) (translatedGateway, error) {
		alone := in
		alone.Routes, alone.Built = routes, nil
		return try(alone, nil)
	}))
	if out, err := try(in, before.hosts); err == nil {
		return out, nil
	}
	in = t.gatewayInputs(gw, nil, seen)
	out, err := refusing(in.Routes, "Gateway "+gw.Namespace+"/"+gw.Name, func(routes mesh.RouteInputs) (translatedGateway, error) {
		in.Routes = routes
		return try(in, nil)
	})
	out.routes, out.refused = nil, nil // routes are refused that Envoy would take without others
	return out, err
}

// gatewayInputs returns everything that a Gateway depends on. built are routes of before, of which those that have not changed are used.
func (t *Translator) gatewayInputs(gw *gatewayv1.Gateway, built map[mesh.ID]*mesh.BuiltRoute, seen buildCache) mesh.GatewayInputs {
	key := mesh.Key{Namespace: gw.Namespace, Name: gw.Name}
	routes, kept := sets.Set[mesh.ID]{}, map[mesh.ID]*mesh.BuiltRoute{}
	for id := range t.routesOfGateway(key) {
		if b := built[id]; b != nil && !t.gateways.changed.Has(id) {
			kept[id] = b
		} else {
			routes.Insert(id)
		}
	}
	in := mesh.GatewayInputs{
		Gateway: gw, Routes: t.routeInputs(routes, seen), Built: kept,
		Namespaces: t.gateways.namespaces, Secrets: t.gateways.secrets, ConfigMaps: t.gateways.configMaps, NoIdentities: t.pods == nil,
	}
	in.Parameters, in.ParametersError = t.readParameters(gw)
	service := t.gateways.service[key]
	in.Service = t.gateways.services[service]
	in.Deployed = mesh.BuildDeployed(in.Service, t.slicesOf(service))
	refs := slices.Clone(t.gateways.refs[mesh.ID{Kind: mesh.KindGateway, Key: key}])
	for id := range t.gateways.sets[key] {
		in.ListenerSets = append(in.ListenerSets, t.objects[id].(*gatewayv1.ListenerSet))
		refs = append(refs, t.gateways.refs[id]...)
	}
	in.Routes.Grants = append(in.Routes.Grants, t.grantsOf(refs)...)
	return in
}
