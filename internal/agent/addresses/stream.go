package addresses

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// Pauses between attempts to reach the control plane, as for Envoy's own stream.
const firstPause, longestPause = 100 * time.Millisecond, 5 * time.Second

// buffer of the connection in bytes, for one stream with small messages: gRPC's own are 32 kB each.
const buffer = 4 << 10

// Run asks the control plane until ctx ends.
func (a *Addresses) Run(ctx context.Context) {
	pause := firstPause
	for {
		if a.count() == 0 {
			select { // nothing is called by address, and nobody need be connected for it
			case <-a.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		heard, err := a.ask(ctx)
		if heard {
			pause = firstPause
		}
		if err == nil {
			continue
		}
		a.opts.Log.Debug("pod addresses: the control plane's stream has ended", "error", err)
		select {
		case <-time.After(rand.N(pause)):
			pause = min(2*pause, longestPause)
		case <-ctx.Done():
			return
		}
	}
}

// ask runs one stream until it breaks or no address is left. It reports whether the control plane has answered.
func (a *Addresses) ask(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///control-plane",
		grpc.WithTransportCredentials(insecure.NewCredentials()), // Dial has TLS
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return a.opts.Dial(ctx) }),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: firstPause, Multiplier: 2, Jitter: .5, MaxDelay: longestPause},
			MinConnectTimeout: longestPause,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithReadBufferSize(buffer), grpc.WithWriteBufferSize(buffer),
	)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx, grpc.WaitForReady(true))
	if err != nil {
		return false, err
	}
	if err := stream.Send(a.first()); err != nil {
		return false, err
	}
	responses, ended := make(chan *discoveryv3.DeltaDiscoveryResponse), make(chan error, 1)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case responses <- r:
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(min(time.Minute, a.opts.Idle))
	defer tick.Stop()
	for {
		var requests []*discoveryv3.DeltaDiscoveryRequest
		select {
		case r := <-responses:
			heard = true
			a.take(r)
			requests = []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: sds.AddressType, ResponseNonce: r.GetNonce()}}
		case <-a.wake:
			requests = a.next()
		case <-tick.C:
			if !a.sweep() {
				return heard, nil
			}
			continue
		case err := <-ended:
			return heard, err
		case <-ctx.Done():
			return heard, ctx.Err()
		}
		for _, req := range requests {
			if err := stream.Send(req); err != nil {
				return heard, err
			}
		}
	}
}

// first returns the first request of a stream: the node, and all wanted names with their known versions.
func (a *Addresses) first() *discoveryv3.DeltaDiscoveryRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: sds.AddressType, Node: a.opts.Node, InitialResourceVersions: map[string]string{}}
	a.touched, a.told = map[string]struct{}{}, map[string]struct{}{}
	for name, e := range a.known {
		a.told[name] = struct{}{}
		req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, name)
		if e.identity != "" {
			req.InitialResourceVersions[name] = e.version
		}
	}
	return req
}

// next returns the unsubscriptions, and then the new subscriptions. In a single request the control plane would count
// both.
func (a *Addresses) next() (requests []*discoveryv3.DeltaDiscoveryRequest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var come, gone []string
	for name := range a.touched {
		e, told := a.known[name], has(a.told, name)
		switch {
		case e == nil && told:
			delete(a.told, name)
			gone = append(gone, name)
		case e != nil && e.identity == "": // also one that was given up a moment ago: it is to be said again
			a.told[name] = struct{}{}
			come = append(come, name)
		}
	}
	a.touched = map[string]struct{}{}
	if len(gone) > 0 {
		requests = append(requests, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: sds.AddressType, ResourceNamesUnsubscribe: gone})
	}
	if len(come) > 0 {
		requests = append(requests, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: sds.AddressType, ResourceNamesSubscribe: come})
	}
	return requests
}

func has(set map[string]struct{}, name string) bool {
	_, ok := set[name]
	return ok
}

// take stores the control plane's answers. A removed name stays unknown, and callers keep waiting for it: this replica
// may be old and not know such addresses, and the next one may.
func (a *Addresses) take(r *discoveryv3.DeltaDiscoveryResponse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, resource := range r.GetResources() {
		e := a.known[resource.GetName()]
		if e == nil {
			continue // given up meanwhile
		}
		said := &wrapperspb.StringValue{}
		// Envoy takes several names, with commas between them, for any of them.
		if err := resource.GetResource().UnmarshalTo(said); err != nil || said.Value != sds.PlainText && !strings.HasPrefix(said.Value, "spiffe://") || strings.Contains(said.Value, ",") {
			a.opts.Log.Error("cannot read the control plane's answer about a pod address", "address", e.name, "value", said.Value, "error", err)
			continue
		}
		if e.identity == "" {
			close(e.answered)
		}
		e.identity, e.version = said.Value, resource.GetVersion()
	}
}
