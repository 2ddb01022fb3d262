// Package addresses knows who is at pods' own addresses that the application calls. Envoy asks for each connection, over
// the socket of its secrets (xds/envoy/pods.go); the package asks the control plane, and hears of changes, on an ADS
// stream of its own, which there is while there are addresses. It may import internal/sds of this module.
//
// What it holds is bounded by what is called, not by what was: an address that was not called for a while is given up,
// and so is the one that was called longest ago where there are too many. The next call asks for it anew. Connections
// that live need none of this.
package addresses

import (
	"container/list"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// defaultIdle is after what time an address that nobody calls is given up. Until then calls to it need no control plane.
const defaultIdle = 30 * time.Minute

// Options are what Addresses are told.
type Options struct {
	// Node is who asks the control plane.
	Node *corev3.Node
	// Dial makes a connection to the ADS server.
	Dial       func(context.Context) (net.Conn, error)
	Registerer prometheus.Registerer
	Log        *slog.Logger
	// Idle and Most are the bounds, by default half an hour and sds.MaxAddresses.
	Idle time.Duration
	Most int
}

// Addresses are those that the application calls.
type Addresses struct {
	opts       Options
	refused    *prometheus.CounterVec
	complaints *rate.Limiter

	mu    sync.Mutex
	known map[string]*entry
	// used are the same, the one that was called last in front.
	used list.List
	// touched are names of which the control plane is to be told that they are wanted, or are no more, and told those
	// that it has heard of on this stream.
	touched, told map[string]struct{}
	wake          chan struct{}
}

// entry is one address.
type entry struct {
	name string
	// identity is empty until it is known.
	identity, version string
	// answered is closed when it is known.
	answered chan struct{}
	waiting  int
	last     time.Time
	place    *list.Element
}

// Reasons why a call is refused.
var (
	errTooMany = errors.New("too many other addresses wait for the control plane")
	errUnknown = errors.New("no answer from the control plane in time about the pod at this address")
)

// New gives Addresses of which nothing is known.
func New(o Options) *Addresses {
	if o.Idle == 0 {
		o.Idle = defaultIdle
	}
	if o.Most == 0 {
		o.Most = sds.MaxAddresses
	}
	a := &Addresses{
		opts: o, known: map[string]*entry{}, touched: map[string]struct{}{}, told: map[string]struct{}{}, wake: make(chan struct{}, 1),
		complaints: rate.NewLimiter(rate.Every(10*time.Second), 3),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_agent_pod_address_refusals_total",
			Help: "Refused connections to pod addresses, by reason: no answer from the control plane in time (unknown), or too many addresses that wait for an answer (too-many).",
		}, []string{"reason"}),
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(a.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "mizzen_agent_pod_addresses",
			Help: "Pod addresses that the application has called and the agent remembers.",
		}, func() float64 { return float64(a.count()) }))
	}
	return a
}

func (a *Addresses) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.known)
}

// Who waits until it is known who is at an address: a SPIFFE ID or sds.PlainText.
func (a *Addresses) Who(ctx context.Context, addr netip.AddrPort) (identity string, err error) {
	e, err := a.enter(sds.AddressName(addr))
	if err != nil {
		return "", a.refuse("too-many", addr, err)
	}
	defer a.leave(e)
	select {
	case <-e.answered:
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) { // who asked has gone
			return "", ctx.Err()
		}
	}
	a.mu.Lock()
	identity = e.identity
	a.mu.Unlock()
	if identity == "" {
		return "", a.refuse("unknown", addr, errUnknown)
	}
	return identity, nil
}

// enter finds the entry of an address that is called, or makes it.
func (a *Addresses) enter(name string) (*entry, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e := a.known[name]
	if e == nil {
		if len(a.known) >= a.opts.Most && !a.makeRoom() {
			return nil, errTooMany
		}
		e = &entry{name: name, answered: make(chan struct{})}
		e.place = a.used.PushFront(e)
		a.known[name] = e
		a.touch(name)
	}
	e.waiting++
	e.last = time.Now()
	a.used.MoveToFront(e.place)
	return e, nil
}

func (a *Addresses) leave(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	e.waiting--
}

// makeRoom gives up the address that was called longest ago and that nobody waits for. a.mu is held.
func (a *Addresses) makeRoom() bool {
	for place := a.used.Back(); place != nil; place = place.Prev() {
		if e := place.Value.(*entry); e.waiting == 0 {
			a.giveUp(e)
			return true
		}
	}
	return false
}

// giveUp forgets an address, at the control plane, too. a.mu is held.
func (a *Addresses) giveUp(e *entry) {
	a.used.Remove(e.place)
	delete(a.known, e.name)
	a.touch(e.name)
}

// touch has the control plane told of a name. a.mu is held.
func (a *Addresses) touch(name string) {
	a.touched[name] = struct{}{}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// sweep gives up what is idle, and reports whether something is left.
func (a *Addresses) sweep() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for place := a.used.Back(); place != nil; {
		e := place.Value.(*entry)
		if time.Since(e.last) < a.opts.Idle {
			break // so are all before it
		}
		place = place.Prev()
		if e.waiting == 0 {
			a.giveUp(e)
		}
	}
	if len(a.known) == 0 {
		a.known = map[string]*entry{} // a map that was large once keeps its memory
	}
	return len(a.known) > 0
}

// refuse counts a refusal and logs it, but not without end.
func (a *Addresses) refuse(reason string, addr netip.AddrPort, why error) error {
	a.refused.WithLabelValues(reason).Inc()
	if a.complaints.Allow() {
		a.opts.Log.Warn("refused a connection to a pod address", "address", addr.String(), "error", why,
			"remedy", "check that the control plane is reachable; exclude destinations outside the mesh with many addresses (mizzen.dev/exclude-outbound-cidrs)")
	}
	return why
}
