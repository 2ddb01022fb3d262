package feature

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// tap is a gRPC proxy between Envoy and the server: it notes what is said, and can hold it back.
type tap struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	t      *testing.T
	start  time.Time
	server discoveryv3.AggregatedDiscoveryServiceClient

	mu      sync.Mutex
	streams int
	said    []message
	hold    func(message) bool
	held    []func()
}

// message is a request or a response.
type message struct {
	at       time.Duration
	stream   int
	request  *discoveryv3.DeltaDiscoveryRequest
	response *discoveryv3.DeltaDiscoveryResponse
}

// newTap gives a tap that tells what was said if the test fails.
func newTap(t *testing.T) *tap {
	p := &tap{t: t, start: time.Now()}
	t.Cleanup(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if t.Failed() {
			for _, m := range p.said[max(0, len(p.said)-100):] {
				t.Logf("%.500s", m)
			}
		}
	})
	return p
}

func (m message) String() string {
	at := fmt.Sprintf("%6d ms, stream %d", m.at.Milliseconds(), m.stream)
	if r := m.request; r != nil {
		return fmt.Sprintf("%s: Envoy  %s, subscribes %q, unsubscribes %q, holds %q, nonce %q, error %q", at, short(r.TypeUrl), r.ResourceNamesSubscribe,
			r.ResourceNamesUnsubscribe, slices.Sorted(maps.Keys(r.InitialResourceVersions)), r.ResponseNonce, r.GetErrorDetail().GetMessage())
	}
	return fmt.Sprintf("%s: server %s, %q, removed %q, nonce %q", at, short(m.response.TypeUrl), m.names(), m.response.RemovedResources, m.response.Nonce)
}

func short(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }

// names are those of a response's resources.
func (m message) names() []string {
	var out []string
	for _, r := range m.response.GetResources() {
		out = append(out, r.Name)
	}
	return out
}

// responses and requests of a type, to hold them back.
func responses(typeURL string) func(message) bool {
	return func(m message) bool { return m.response.GetTypeUrl() == typeURL }
}

func requests(typeURL string) func(message) bool {
	return func(m message) bool { return m.request.GetTypeUrl() == typeURL }
}

// acks are a client's ACKs and NACKs of a type.
func acks(typeURL string) func(message) bool {
	return func(m message) bool { return m.request.GetTypeUrl() == typeURL && m.request.ResponseNonce != "" }
}

// serve passes on between an address and the server's, until stop. With identities it is the control plane to Envoy, and the
// pod to the server.
func (p *tap) serve(address string, w *testMesh) (listens string, stop func()) {
	p.t.Helper()
	up, down := insecure.NewCredentials(), insecure.NewCredentials()
	if w.Authority != nil {
		certificate, err := w.Certificate(w.pod)
		w.must(err)
		up, down = credentials.NewTLS(w.ClientTLS(certificate)), credentials.NewTLS(w.Authority.TLS(true))
	}
	conn, err := grpc.NewClient(w.server.Address, grpc.WithTransportCredentials(up))
	if err != nil {
		p.t.Fatal(err)
	}
	p.server = discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
	l, err := net.Listen("tcp", address)
	if err != nil {
		p.t.Fatal(err)
	}
	g := grpc.NewServer(grpc.Creds(down), grpc.MaxRecvMsgSize(16<<20))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, p)
	done := make(chan error, 1)
	go func() { done <- g.Serve(l) }()
	return l.Addr().String(), func() {
		g.Stop()
		conn.Close()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	}
}

// DeltaAggregatedResources passes on one stream.
func (p *tap) DeltaAggregatedResources(down discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	up, err := p.server.DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	p.streams++
	number := p.streams
	p.mu.Unlock()
	go func() {
		for {
			r, err := down.Recv()
			if err != nil {
				cancel()
				return
			}
			p.pass(message{stream: number, request: r}, func() { _ = up.Send(r) }) // Recv tells of a broken stream
		}
	}()
	for {
		r, err := up.Recv()
		if err != nil {
			return err
		}
		p.pass(message{stream: number, response: r}, func() { _ = down.Send(r) })
	}
}

// pass notes a message and sends it on, or holds it.
func (p *tap) pass(m message, send func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := func() {
		m.at = time.Since(p.start)
		p.said = append(p.said, m)
		send()
	}
	if p.hold != nil && p.hold(m) {
		p.held = append(p.held, now)
		return
	}
	now()
}

// holdBack keeps the messages that it is true for, until release.
func (p *tap) holdBack(f func(message) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = f
}

func (p *tap) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = nil
	for _, send := range p.held {
		send()
	}
	p.held = nil
}

// awaitHeld waits until messages are held.
func (w *testMesh) awaitHeld() {
	w.t.Helper()
	w.await("a message is held back", func() error {
		w.tap.mu.Lock()
		defer w.tap.mu.Unlock()
		if len(w.tap.held) == 0 {
			return fmt.Errorf("none of %d", len(w.tap.said))
		}
		return nil
	})
}

// heard gives the messages, of one stream or, if that is 0, of all.
func (p *tap) heard(stream int) []message {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []message
	for _, m := range p.said {
		if stream == 0 || m.stream == stream {
			out = append(out, m)
		}
	}
	return out
}

// asked counts the requests that subscribe to a name.
func (p *tap) asked(typeURL, name string) int {
	n := 0
	for _, m := range p.heard(0) {
		if m.request.GetTypeUrl() == typeURL && slices.Contains(m.request.ResourceNamesSubscribe, name) {
			n++
		}
	}
	return n
}
