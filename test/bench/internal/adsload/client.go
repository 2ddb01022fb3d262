package adsload

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// state of a name that a client has subscribed to.
type state byte

const (
	unknown state = iota
	asked
	answered
)

// client is one sidecar. All but stream is guarded by mu.
type client struct {
	fleet *Fleet
	node  node.Node
	// source is the address to connect from; nil for any.
	source *net.TCPAddr
	// routes and clusters are what the application calls (Uses), as ids of route configurations and of clusters.
	routes, clusters []int32

	mu     sync.Mutex
	stream grpc.ClientStream
	named  bool // the node has been sent on this stream
	// has and names are by the resource's id; a client keeps both over a reconnect.
	has   [kinds][]*resource
	names [kinds][]state
	// open counts the names that wait for an answer; first has the kinds of which an answer has come.
	open  int
	first [kinds]bool
	// begun is set when the client has asked for listeners, which it does once its clusters are warm.
	begun bool
	// demands are the clusters (envoy.Demand) by which it has asked for scopes. Those in awaiting it asks for when the
	// first of all is answered.
	demands, awaiting []int32
	// warming are the endpoints that clusters wait for. Meanwhile acknowledgements of clusters and requests for them are
	// held back.
	warming   map[int32]struct{}
	heldAcks  []string
	heldNames []string
	responses int
	syncedAt  time.Time
}

// serve runs a stream until it ends.
func (c *client) serve(ctx context.Context, conn *grpc.ClientConn) error {
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true},
		"/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", grpc.ForceCodecV2(codec{}))
	if err != nil {
		return err
	}
	if err := c.begin(stream); err != nil {
		return err
	}
	var res wireResponse
	for {
		var buf mem.Buffer
		if err := stream.RecvMsg(&buf); err != nil {
			return err
		}
		err := res.parse(buf.ReadOnlyData())
		if err == nil {
			err = c.handle(&res)
		}
		buf.Free()
		if err != nil {
			return err
		}
	}
}

// begin subscribes to everything that the client subscribed to before, saying what it holds, as Envoy
// does on a new stream; a fresh one begins with clusters. It holds none of those that are demands.
func (c *client) begin(stream grpc.ClientStream) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stream, c.named, c.syncedAt = stream, false, time.Time{}
	c.heldAcks, c.heldNames, c.warming = nil, nil, map[int32]struct{}{}
	if !c.begun {
		return c.send(Clusters, &discoveryv3.DeltaDiscoveryRequest{}, nil)
	}
	c.first = [kinds]bool{}
	for _, id := range c.demands {
		if s := at(&c.names[Clusters], id); *s == answered {
			*s = asked
			c.open++
		}
	}
	for k := Clusters; k < probes; k++ {
		req := &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: c.subscribed(k)}
		if len(req.ResourceNamesSubscribe) == 0 && (k == Endpoints || k == Routes) {
			continue
		}
		if err := c.send(k, req, c.has[k]); err != nil {
			return err
		}
	}
	return c.send(probes, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"adsload"}}, nil)
}

// subscribed are the names asked for, behind the wildcard where there is one.
func (c *client) subscribed(k Kind) []string {
	var out []string
	for id, s := range c.names[k] {
		if s != unknown {
			out = append(out, c.fleet.catalog.name(k, int32(id)))
		}
	}
	if len(out) > 0 && k == Clusters {
		out = append([]string{"*"}, out...)
	}
	return out
}

func (c *client) send(k Kind, req *discoveryv3.DeltaDiscoveryRequest, initial []*resource) error {
	req.TypeUrl = typeURLs[k]
	if !c.named {
		req.Node, c.named = c.node.Proto(), true
	}
	b, err := marshal(req, initial)
	if err != nil {
		return err
	}
	return c.stream.SendMsg(b)
}

// subscribe asks for the names among ids that the client has not asked for yet.
func (c *client) subscribe(k Kind, ids []int32) error {
	var fresh []string
	for _, id := range ids {
		if s := at(&c.names[k], id); *s == unknown {
			*s = asked
			c.open++
			fresh = append(fresh, c.fleet.catalog.name(k, id))
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if k == Clusters && len(c.warming) > 0 {
		c.heldNames = append(c.heldNames, fresh...)
		return nil
	}
	return c.send(k, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: fresh}, nil)
}

func (c *client) unsubscribe(k Kind, ids []int32) error {
	var gone []string
	for _, id := range ids {
		if s := at(&c.names[k], id); *s != unknown {
			if *s == asked {
				c.open--
			}
			*s = unknown
			*at(&c.has[k], id) = nil
			gone = append(gone, c.fleet.catalog.name(k, id))
		}
	}
	if len(gone) == 0 {
		return nil
	}
	return c.send(k, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: gone}, nil)
}

func (c *client) ack(k Kind, nonce string) error {
	return c.send(k, &discoveryv3.DeltaDiscoveryRequest{ResponseNonce: nonce}, nil)
}

func (c *client) handle(res *wireResponse) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fleet.count(res)
	c.responses++
	if n := c.fleet.opt.NACKEvery; n > 0 && c.responses%n == 0 && !c.syncedAt.IsZero() {
		return c.send(res.kind, &discoveryv3.DeltaDiscoveryRequest{
			ResponseNonce: res.nonce, ErrorDetail: &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: "refused by adsload"},
		}, nil)
	}
	changed, err := c.take(res)
	if err != nil {
		return err
	}
	if err := c.react(res, changed); err != nil {
		return err
	}
	now := time.Now()
	c.fleet.note(c, res.kind, changed, now)
	if c.syncedAt.IsZero() && c.synced() {
		c.syncedAt = now
		c.fleet.synced(now)
	}
	return nil
}

// take keeps what was sent and gives it.
func (c *client) take(res *wireResponse) ([]*resource, error) {
	set := make([]*resource, 0, len(res.resources))
	for _, w := range res.resources {
		r, err := c.fleet.catalog.resource(res.kind, w)
		if err != nil {
			return nil, err
		}
		if _, is := envoy.DemandOf(r.name); is && res.kind == Clusters {
			return nil, fmt.Errorf("cluster %q, which must not exist", r.name)
		}
		*at(&c.has[res.kind], r.id) = r
		c.answer(res.kind, r.id)
		set = append(set, r)
	}
	return set, nil
}

func (c *client) answer(k Kind, id int32) {
	if s := at(&c.names[k], id); *s == asked {
		*s = answered
		c.open--
	}
	if k == Endpoints {
		delete(c.warming, id)
	}
}

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

// synced: everything asked for has been answered, and what the application calls is there and warm.
func (c *client) synced() bool {
	if c.open > 0 || len(c.awaiting) > 0 || len(c.warming) > 0 || !c.first[Clusters] || !c.first[Listeners] || !c.first[Scopes] {
		return false
	}
	return !slices.ContainsFunc(c.routes, func(id int32) bool { return !c.routed(id) }) &&
		!slices.ContainsFunc(c.clusters, func(id int32) bool { return !c.usable(id) })
}

// routed reports whether a destination has routes to a Service, and all that they lead to is usable.
func (c *client) routed(destination int32) bool {
	r := *at(&c.has[Routes], destination)
	return r != nil && len(r.refs) > 0 && !slices.ContainsFunc(r.refs, func(id int32) bool { return !c.usable(id) })
}

func (c *client) usable(cluster int32) bool {
	r := *at(&c.has[Clusters], cluster)
	if r == nil {
		return false
	}
	for _, endpoints := range r.refs {
		if *at(&c.has[Endpoints], endpoints) == nil {
			return false
		}
	}
	return true
}

// missing says what a client still waits for.
func (c *client) missing() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	routed := 0
	for _, id := range c.routes {
		if c.routed(id) {
			routed++
		}
	}
	return fmt.Sprintf("%s: %d names unanswered, %d clusters' endpoints awaited, %d of %d destinations routed, CDS %t, LDS %t, SRDS %t",
		c.node.ID(), c.open+len(c.awaiting), len(c.warming), routed, len(c.routes), c.first[Clusters], c.first[Listeners], c.first[Scopes])
}

// at is the element of a slice that grows as needed.
func at[T any](s *[]T, id int32) *T {
	if n := int(id) + 1 - len(*s); n > 0 {
		*s = append(*s, make([]T, n)...)
	}
	return &(*s)[id]
}
