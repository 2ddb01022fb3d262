// Package plaintext remembers the pod's callers without mTLS of the mesh. Envoy reports them by an access log over the
// socket of its secrets (xds/envoy/plain_log.go), shortly after a connection has reached the application. It may import
// internal/agentapi and internal/sds of this module.
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

// maxPorts bounds the series of the metric. Pods seldom have more ports; further ports count as otherPort.
const (
	maxPorts  = 64
	otherPort = "other"
)

// Kinds of what is counted.
const (
	connection = "connection"
	request    = "request"
	// These are not counted. goesOn and requestGoesOn tell again what was told before, or began before the agent did.
	goesOn        = ""
	requestGoesOn = "request goes on"
	ending        = "ending"
)

// Options of Callers.
type Options struct {
	Registerer prometheus.Registerer
	// Now is the clock, time.Now by default.
	Now func() time.Time
}

// Callers of the pod in plain text, and through Meshed those with mTLS at ports of bytes.
type Callers struct {
	// meshed are nil in those with mTLS themselves.
	meshed *meshed
	// sentOn is nil in those with mTLS.
	sentOn *redirects

	now   func() time.Time
	calls *prometheus.CounterVec
	since time.Time

	// heard receives after something was heard of a connection; meshed has the same.
	heard chan struct{}

	mu        sync.Mutex
	seen      map[key]*agentapi.Caller
	ports     map[uint16]bool
	live      live
	forgotten uint64
}

// key is a caller and the port that it calls: an address, or the identity of one with mTLS.
type key struct {
	source netip.Addr
	id     string
	port   uint16
}

// New returns Callers without entries.
func New(o Options) *Callers {
	if o.Now == nil {
		o.Now = time.Now
	}
	c := &Callers{
		now: o.Now, since: o.Now(), seen: map[key]*agentapi.Caller{}, ports: map[uint16]bool{}, live: live{}, heard: make(chan struct{}, 1),
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_agent_plaintext_calls_total",
			Help: "Connections that reached the application without mTLS of the mesh (requests where the sidecar reads HTTP), by port and kind.",
		}, []string{"port", "kind"}),
	}
	o.Registerer.MustRegister(c.calls)
	c.sentOn = &redirects{now: o.Now, by: map[string]*redirect{}}
	c.meshed = newMeshed(o, c.since, c.heard, c.sentOn)
	return c
}

// Snapshot returns the remembered callers.
func (c *Callers) Snapshot() agentapi.PlainText {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := agentapi.PlainText{Since: c.since, Forgotten: c.forgotten, Callers: make([]agentapi.Caller, 0, len(c.seen))}
	if c.meshed != nil {
		m := c.meshed.callers.Snapshot()
		out.MTLS, out.MTLSForgotten = m.Callers, m.Forgotten
		out.WouldRefuse = c.meshed.refusals()
	}
	live := c.live.of(c.now())
	for at, caller := range c.seen {
		told := *caller
		told.Live = live[at]
		out.Callers = append(out.Callers, told)
	}
	slices.SortFunc(out.Callers, func(a, b agentapi.Caller) int {
		return cmp.Or(a.Source.Compare(b.Source), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Port, b.Port))
	})
	return out
}

// saw enters a caller.
func (c *Callers) saw(from, to netip.AddrPort, id, kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.now()
	at, socket := key{source: from.Addr(), port: to.Port()}, peer{from, to.Port()}
	if id != "" {
		at = key{id: id, port: to.Port()}
	}
	if (kind == connection || kind == request) && c.sentOn.called(at) {
		return
	}
	switch kind {
	case ending:
		c.live.ended(socket, now)
		if caller := c.seen[at]; caller != nil {
			caller.Last = now
		}
		return
	case goesOn, requestGoesOn:
		c.live.goesOn(socket, at, now, kind == requestGoesOn)
	default:
		c.live.began(socket, at, now, kind == request)
	}
	select {
	case c.heard <- struct{}{}:
	default:
	}
	caller := c.seen[at]
	if caller == nil {
		c.makeRoom()
		caller = &agentapi.Caller{Source: at.source, ID: at.id, Port: at.port, First: now}
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
	if id == "" {
		c.calls.WithLabelValues(c.portLabel(at.port), kind).Inc()
	}
}

// makeRoom forgets the caller with the oldest call.
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
