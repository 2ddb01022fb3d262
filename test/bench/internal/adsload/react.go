package adsload

import (
	"fmt"
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// react does what Envoy does after a response.
func (c *client) react(res *wireResponse, set []*resource) error {
	gone, err := c.remove(res)
	if err != nil {
		return err
	}
	wasFirst := !c.first[res.kind]
	c.first[res.kind] = true
	switch res.kind {
	case Clusters:
		return c.warm(res.nonce, set, gone)
	case Endpoints:
		if err := c.ack(Endpoints, res.nonce); err != nil {
			return err
		}
		return c.warmed()
	case Scopes:
		if err := c.follow(set, gone); err != nil {
			return err
		}
	case probes:
		for k := range c.first {
			c.first[k] = true
		}
		return c.send(probes, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: res.nonce, ResourceNamesUnsubscribe: res.removed}, nil)
	}
	if err := c.ack(res.kind, res.nonce); err != nil {
		return err
	}
	if res.kind == Listeners && wasFirst {
		return c.send(Scopes, &discoveryv3.DeltaDiscoveryRequest{}, nil)
	}
	if res.kind == Scopes && wasFirst {
		return c.call(c.routes)
	}
	return nil
}

// remove forgets what is gone, and gives the ids that it referred to.
func (c *client) remove(res *wireResponse) ([]int32, error) {
	var refs []int32
	for _, name := range res.removed {
		if err := c.demandAnswered(res.kind, name); err != nil {
			return nil, err
		}
		id := c.fleet.catalog.id(res.kind, name)
		if held := at(&c.has[res.kind], id); *held != nil {
			refs = append(refs, (*held).refs...)
			*held = nil
		}
		c.answer(res.kind, id)
	}
	return refs, nil
}

// demandAnswered checks the answer to a demand: Envoy lets the requests go on that wait for it, so there must be routes.
func (c *client) demandAnswered(k Kind, name string) error {
	destination, is := envoy.DemandOf(name)
	if !is || k != Clusters {
		return nil
	}
	if *at(&c.has[Routes], c.fleet.catalog.id(Routes, destination)) == nil {
		return fmt.Errorf("demand for %s answered before its routes came", destination)
	}
	return nil
}

// warm asks for the endpoints of new clusters. The acknowledgement waits until no cluster warms, as Envoy's does: it
// pauses CDS meanwhile.
func (c *client) warm(nonce string, set []*resource, gone []int32) error {
	var ids []int32
	for _, r := range set {
		ids = append(ids, r.refs...)
	}
	for _, id := range ids {
		c.warming[id] = struct{}{}
	}
	if err := c.subscribe(Endpoints, ids); err != nil {
		return err
	}
	if err := c.unsubscribe(Endpoints, c.unused(Clusters, gone)); err != nil {
		return err
	}
	if err := c.callAwaiting(); err != nil {
		return err
	}
	c.heldAcks = append(c.heldAcks, nonce)
	return c.warmed()
}

// unused are the ids that nothing of kind k which the client holds refers to.
func (c *client) unused(k Kind, ids []int32) []int32 {
	if len(ids) == 0 {
		return nil
	}
	left := map[int32]struct{}{}
	for _, id := range ids {
		left[id] = struct{}{}
	}
	for _, r := range c.has[k] {
		if r != nil {
			for _, ref := range r.refs {
				delete(left, ref)
			}
		}
	}
	return slices.Collect(maps.Keys(left))
}

// warmed sends what is held back about clusters once all are warm. The first time the client goes on: clusters by
// name that its application uses and that have not come by themselves, and listeners.
func (c *client) warmed() error {
	if len(c.warming) > 0 || len(c.heldAcks) == 0 {
		return nil
	}
	for _, nonce := range c.heldAcks {
		if err := c.ack(Clusters, nonce); err != nil {
			return err
		}
	}
	if len(c.heldNames) > 0 {
		if err := c.send(Clusters, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: c.heldNames}, nil); err != nil {
			return err
		}
	}
	c.heldAcks, c.heldNames = nil, nil
	if c.begun {
		return nil
	}
	c.begun = true
	var missing []int32
	for _, id := range c.clusters {
		if *at(&c.has[Clusters], id) == nil {
			missing = append(missing, id)
		}
	}
	if err := c.subscribe(Clusters, missing); err != nil {
		return err
	}
	return c.send(Listeners, &discoveryv3.DeltaDiscoveryRequest{}, nil)
}

// follow subscribes to the route configurations of new scopes, and unsubscribes from those of scopes that are gone.
func (c *client) follow(set []*resource, gone []int32) error {
	var ids []int32
	for _, r := range set {
		ids = append(ids, r.refs...)
	}
	if err := c.subscribe(Routes, ids); err != nil {
		return err
	}
	return c.unsubscribe(Routes, c.unused(Scopes, gone))
}

// call asks for the scopes of destinations that the application calls and that have none yet. Envoy asks for the first
// cluster on demand alone, and for the others of that time when the first is answered.
func (c *client) call(destinations []int32) error {
	first := len(c.demands) == 0
	for _, route := range destinations {
		demand := c.fleet.demand(route)
		scoped := *at(&c.names[Routes], route) != unknown // a client asks for the routes of each scope that it has
		if !scoped && *at(&c.names[Clusters], demand) == unknown && !slices.Contains(c.awaiting, demand) {
			c.awaiting = append(c.awaiting, demand)
		}
	}
	if first && len(c.awaiting) > 0 {
		one := c.awaiting[:1]
		c.demands, c.awaiting = slices.Clone(one), c.awaiting[1:]
		return c.subscribe(Clusters, one)
	}
	return c.callAwaiting()
}

func (c *client) callAwaiting() error {
	if len(c.awaiting) == 0 || *at(&c.names[Clusters], c.demands[0]) != answered {
		return nil
	}
	ids := c.awaiting
	c.demands, c.awaiting = append(c.demands, ids...), nil
	return c.subscribe(Clusters, ids)
}
