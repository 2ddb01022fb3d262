// Package plaintext remembers who calls the pod without mTLS of the mesh. Envoy tells it as an access log over the
// socket of its secrets (xds/envoy/plain_log.go), a moment after a connection has reached the application. It may
// import internal/agentapi and internal/sds of this module.
package plaintext

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
)

// maxPorts bounds the series of the metric. A pod seldom has more ports than that; those that come later count
// as otherPort.
const (
	maxPorts  = 64
	otherPort = "other"
)

// Kinds of what is counted.
const (
	connection = "connection"
	request    = "request"
)

// Options are what Callers are told.
type Options struct {
	Registerer prometheus.Registerer
	// Now is the clock, time.Now by default.
	Now func() time.Time
}

// Callers of the pod in plain text.
type Callers struct {
	now   func() time.Time
	calls *prometheus.CounterVec
	since time.Time

	mu        sync.Mutex
	seen      map[key]*agentapi.Caller
	ports     map[uint16]bool
	forgotten uint64
}

type key struct {
	source netip.Addr
	port   uint16
}

// New gives callers of whom none has been seen.
func New(o Options) *Callers {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Callers{
		now: o.Now, since: o.Now(), seen: map[key]*agentapi.Caller{}, ports: map[uint16]bool{},
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_agent_plaintext_calls_total",
			Help: "Connections that reached the application without mTLS of the mesh, by port; requests where the sidecar reads HTTP.",
		}, []string{"port", "kind"}),
	}
	o.Registerer.MustRegister(c.calls)
	return c
}

// Snapshot tells what is remembered.
func (c *Callers) Snapshot() agentapi.PlainText {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := agentapi.PlainText{Since: c.since, Forgotten: c.forgotten, Callers: make([]agentapi.Caller, 0, len(c.seen))}
	for _, caller := range c.seen {
		out.Callers = append(out.Callers, *caller)
	}
	slices.SortFunc(out.Callers, func(a, b agentapi.Caller) int {
		return cmp.Or(a.Source.Compare(b.Source), cmp.Compare(a.Port, b.Port))
	})
	return out
}

// saw enters a caller. kind is empty for one that was told before and is there still.
func (c *Callers) saw(from, to netip.AddrPort, kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	at := key{from.Addr(), to.Port()}
	caller := c.seen[at]
	if caller == nil {
		c.makeRoom()
		caller = &agentapi.Caller{Source: at.source, Port: at.port, First: now}
		c.seen[at] = caller
	}
	caller.Last = now
	switch kind {
	case connection:
		caller.Connections++
	case request:
		caller.Requests++
	default:
		return
	}
	c.calls.WithLabelValues(c.portLabel(at.port), kind).Inc()
}

// makeRoom forgets who was not seen for longest.
func (c *Callers) makeRoom() {
	if len(c.seen) < agentapi.MaxCallers {
		return
	}
	var oldest key
	var last time.Time
	for k, caller := range c.seen {
		if last.IsZero() || caller.Last.Before(last) {
			oldest, last = k, caller.Last
		}
	}
	delete(c.seen, oldest)
	c.forgotten++
}

func (c *Callers) portLabel(port uint16) string {
	if !c.ports[port] {
		if len(c.ports) == maxPorts {
			return otherPort
		}
		c.ports[port] = true
	}
	return strconv.Itoa(int(port))
}

// addrPort reads an address of a log entry.
func addrPort(a *corev3.Address) (netip.AddrPort, bool) {
	socket := a.GetSocketAddress()
	ip, err := netip.ParseAddr(socket.GetAddress())
	if err != nil || socket.GetPortValue() > 1<<16-1 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip.Unmap().WithZone(""), uint16(socket.GetPortValue())), true
}
