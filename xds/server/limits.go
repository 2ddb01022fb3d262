package server

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/peer"

	"github.com/mizzen-mesh/mizzen/internal/netlimit"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// What one client may ask for, so that it cannot hurt the others.
const (
	// maxNames on one stream: what is subscribed to and what is brought along, of all types.
	maxNames = 500_000
	// maxAbsent of them may be names that do not exist and that get an answer of their own all the same.
	maxAbsent = 256
	// maxMade of them may be names of which the resource is made for who asks.
	maxMade = sds.MaxAddresses
	// maxName is the length of a name and of a type in bytes. The longest that Mizzen gives is some 150.
	maxName = 256
	// maxVersion is the length in bytes of a version that is kept; a longer one is none of Mizzen's.
	maxVersion = 32
	// maxTypes of resources on one stream. Envoy asks for some ten.
	maxTypes = 32
	// maxRequest is the size of one request in bytes; a proxy that comes back lists what it holds.
	maxRequest = 16 << 20
	// maxHeader is the size of a stream's header in bytes.
	maxHeader = 32 << 10
	// handshakeTime is how long a connection may take to begin.
	handshakeTime = 10 * time.Second
	// firstRequestTime is how long a stream may be silent when it begins.
	firstRequestTime = 10 * time.Second
	// maxResponse is the size in bytes at which a response is large enough and the rest waits for its
	// acknowledgement.
	maxResponse = 1 << 20
	// streamsPerPod are one for Envoy, and those of connections that have broken and are not noticed yet.
	streamsPerPod = 8
	// streamsPerConnection is one for Envoy, and another while it replaces the first.
	streamsPerConnection = 4
)

// A stream may send this many requests a second, after some at once. Envoy sends one for each answer
// and each first call.
const (
	requestsPerSecond = 1000
	requestsAtOnce    = 5000
)

func newRequestLimit() *rate.Limiter { return rate.NewLimiter(requestsPerSecond, requestsAtOnce) }

// newAddresses bounds the streams of each client address, newPods those of each pod that has shown a certificate.
func newAddresses(most int) *netlimit.Limit[netip.Addr] {
	return &netlimit.Limit[netip.Addr]{Each: most}
}
func newPods() *netlimit.Limit[node.Pod] { return &netlimit.Limit[node.Pod]{Each: streamsPerPod} }

// clientAddress is the zero Addr if it is not known.
func clientAddress(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return netip.Addr{}
	}
	return netlimit.Client(p.Addr.String())
}

// A stream that begins says what its proxy holds, half a megabyte with 10,000 Services, or is sent as
// much. So many streams do that at a time, each for so long at most; the others wait their turn.
const (
	beginnersAtOnce = 32
	// beginnersOfAddress leaves turns to others where one address has many streams that say nothing.
	beginnersOfAddress = beginnersAtOnce / 2
	beginnerTime       = time.Second
)

func newBeginners() *netlimit.Limit[netip.Addr] {
	return &netlimit.Limit[netip.Addr]{All: beginnersAtOnce, Each: beginnersOfAddress}
}

// begin waits for a stream's turn to begin. done, which may be called more than once, ends it; so does time. ok is false
// if ctx ended before.
func (s *Server) begin(ctx context.Context) (done func(), ok bool) {
	leave, ok := s.beginners.Wait(ctx, clientAddress(ctx))
	if !ok {
		return nil, false
	}
	timer := time.AfterFunc(beginnerTime, leave)
	return func() { timer.Stop(); leave() }, true
}

// window is the size in bytes of what a client may send ahead of what is read, which is what HTTP/2
// begins with. Without it gRPC would let it grow with the speed of the network.
const window = 64<<10 - 1

// goAwayTime is how long a stream goes on when the server is on its way down, so that its proxy has heard GOAWAY when
// it ends.
const goAwayTime = 100 * time.Millisecond

// Connections end after a while, so that proxies spread over replicas that came later. Coming back
// costs a list of versions. gRPC varies the age by a tenth.
const (
	connectionAge   = 30 * time.Minute
	connectionGrace = 5 * time.Second
)
