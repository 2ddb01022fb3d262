// Package addresses knows the identities of pods that the application calls by their own addresses. Envoy asks for each
// connection, over the socket of its secrets (xds/envoy/pods.go). The package asks the control plane and gets changes
// on an ADS stream of its own, which exists while there are addresses. It may import internal/sds of this module.
//
// It holds only addresses that are in use. It forgets an address without calls for a while and, if there are too many,
// the one with the oldest call. The next call asks for it again. Open connections do not need the entry.
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

// defaultIdle is the time after which an address without calls is forgotten. Until then calls to it need no control
// plane.
const defaultIdle = 30 * time.Minute

// Options of Addresses.
type Options struct {
	// Node identifies the sidecar to the control plane.
	Node *corev3.Node
	// Dial makes a connection to the ADS server.
	Dial       func(context.Context) (net.Conn, error)
	Registerer prometheus.Registerer
	Log        *slog.Logger
	// Idle and Most are the bounds, by default half an hour and sds.MaxAddresses.
	Idle time.Duration
	Most int
}

// Addresses are the pod addresses that the application calls.
type Addresses struct {
	opts       Options
	refused    *prometheus.CounterVec
	complaints *rate.Limiter

	mu    sync.Mutex
	known map[string]*entry
	// used has the same entries, most recently called first.
	used list.List
	// touched are names whose subscription the control plane does not know yet, and told are the names subscribed on
	// this stream.
	touched, told map[string]struct{}
	wake          chan struct{}
}

// entry is one address.
type entry struct {
	name string
	// identity is empty until the control plane answers.
	identity, version string
	// answered is closed when the control plane answers.
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

// New returns Addresses without entries.
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

// Who returns who is at an address: a SPIFFE ID or sds.PlainText. It waits for the control plane's answer.
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

// enter returns the entry of a called address, and makes it if necessary.
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

// makeRoom forgets the address with the oldest call for which nobody waits. a.mu is held.
func (a *Addresses) makeRoom() bool {
	for place := a.used.Back(); place != nil; place = place.Prev() {
		if e := place.Value.(*entry); e.waiting == 0 {
			a.giveUp(e)
			return true
		}
	}
	return false
}

// giveUp forgets an address and unsubscribes from it. a.mu is held.
func (a *Addresses) giveUp(e *entry) {
	a.used.Remove(e.place)
	delete(a.known, e.name)
	a.touch(e.name)
}

// touch schedules an update of a name's subscription. a.mu is held.
func (a *Addresses) touch(name string) {
	a.touched[name] = struct{}{}
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// sweep forgets idle addresses, and reports whether any are left.
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

// refuse counts a refusal and logs it, at a limited rate.
func (a *Addresses) refuse(reason string, addr netip.AddrPort, why error) error {
	a.refused.WithLabelValues(reason).Inc()
	if a.complaints.Allow() {
		a.opts.Log.Warn("refused a connection to a pod address", "address", addr.String(), "error", why,
			"remedy", "check that the control plane is reachable; exclude destinations outside the mesh with many addresses (mizzen.dev/exclude-outbound-cidrs)")
	}
	return why
}
