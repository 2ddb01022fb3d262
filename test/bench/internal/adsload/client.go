package adsload

import (
	"context"
	"fmt"
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
