package addresses

import (
	"context"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// controlPlane says who is at addresses, on one stream at a time. xds/server is held with the real agent elsewhere
// (xds, test/mtls, test/transparency).
type controlPlane struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	t       *testing.T
	address string
	down    atomic.Bool

	mu      sync.Mutex
	who     map[string]string
	asked   map[string]bool
	first   *discoveryv3.DeltaDiscoveryRequest
	streams int
	most    int
	send    func(set map[string]string, removed ...string)
	end     context.CancelFunc
}

func startControlPlane(t *testing.T) *controlPlane {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &controlPlane{t: t, address: l.Addr().String(), who: map[string]string{}, asked: map[string]bool{}}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, c)
	go func() { _ = g.Serve(l) }() // ends with the test
	t.Cleanup(g.Stop)
	return c
}

func (c *controlPlane) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	ctx, cancel := context.WithCancel(g.Context())
	defer cancel()
	var sending sync.Mutex
	send := func(set map[string]string, removed ...string) {
		sending.Lock()
		defer sending.Unlock()
		res := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: sds.AddressType, Nonce: "n", RemovedResources: removed}
		for name, identity := range set {
			body, err := anypb.New(wrapperspb.String(identity))
			if err != nil {
				c.t.Error(err)
			}
			res.Resources = append(res.Resources, &discoveryv3.Resource{Name: name, Version: "of " + identity, Resource: body})
		}
		_ = g.Send(res) // whether it arrives is what is tested
	}
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			r, err := g.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	c.mu.Lock()
	c.streams++
	c.asked, c.first, c.send, c.end = map[string]bool{}, nil, send, cancel
	c.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return status.Error(codes.Unavailable, "ended")
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			known := map[string]string{}
			c.mu.Lock()
			if c.first == nil {
				c.first = r
			}
			for _, name := range r.ResourceNamesSubscribe {
				c.asked[name] = true
				if identity := c.who[name]; identity != "" && r.InitialResourceVersions[name] != "of "+identity {
					known[name] = identity
				}
			}
			for _, name := range r.ResourceNamesUnsubscribe {
				delete(c.asked, name)
			}
			c.most = max(c.most, len(c.asked))
			c.mu.Unlock()
			if len(known) > 0 {
				send(known)
			}
		}
	}
}

// set says who is at an address, and tells it.
func (c *controlPlane) set(i int, identity string) {
	c.mu.Lock()
	name, send := sds.AddressName(at(i)), c.send
	c.who[name] = identity
	asked := c.asked[name]
	c.mu.Unlock()
	if asked {
		send(map[string]string{name: identity})
	}
}

func (c *controlPlane) names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.asked))
}

// atATime is the largest number of names that were asked for at a time.
func (c *controlPlane) atATime() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}
