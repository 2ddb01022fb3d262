// Package ends ends open connections to the pod that are refused now: those in plain text after the pod became strict,
// and those of callers that policies refuse. Envoy judges a connection when it begins, and an open one only at its next
// byte, if at all. It may import internal/agent/plaintext, internal/capture and internal/sds of this module.
package ends

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

const (
	// lookAgain is the interval at which open connections are compared with Envoy's current configuration. Without open
	// connections nothing happens.
	lookAgain = time.Second
	// nameAgain is the interval at which a still open connection is given to the capture rules again, because they
	// forget it after a while.
	nameAgain = 10 * time.Second
)

// Envoy answers questions about its configuration.
type Envoy interface {
	// ListenerUpdates returns the number of accepted updates of listeners.
	ListenerUpdates(context.Context) (uint64, error)
	// Admission returns the current admission rules; nil if the control plane has sent none. settled is true if no
	// update is in progress.
	Admission(context.Context) (a *sds.Admission, settled bool, err error)
}

// Options of Ends.
type Options struct {
	Callers *plaintext.Callers
	Envoy   Envoy
	// End ends the connection of a caller, capture.EndConnection by default.
	End        func(caller netip.AddrPort) error
	Registerer prometheus.Registerer
	Log        *slog.Logger
	// Now is the clock, time.Now by default.
	Now func() time.Time
}

// Ends of connections.
type Ends struct {
	o     Options
	ended *prometheus.CounterVec

	// quiet says that there was no open connection at the last look.
	quiet bool
	// anew says that another Envoy has started since the last look.
	anew atomic.Bool
	// known says that admission is current as of this number of updates.
	known     bool
	updates   uint64
	admission *sds.Admission
	// refused are open connections that are refused now.
	refused map[key]*refusal
	failing bool
}

type key struct {
	caller netip.AddrPort
	port   uint16
	id     string
}

type refusal struct {
	since time.Time
	// named is when the connection was last given to the capture rules.
	named time.Time
}

// New returns Ends, which do nothing before Run.
func New(o Options) *Ends {
	if o.End == nil {
		o.End = capture.EndConnection
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &Ends{
		o: o, refused: map[key]*refusal{},
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_agent_ended_connections_total",
			Help: "Open connections that the sidecar ended, by reason: the port became strict (plaintext), or policies refuse the caller (policy).",
		}, []string{"reason"}),
	}
	o.Registerer.MustRegister(e.ended)
	for _, reason := range []string{plainText, byPolicy} {
		e.ended.WithLabelValues(reason)
	}
	return e
}

// Reasons.
const (
	plainText = "plaintext"
	byPolicy  = "policy"
)

// Run looks until ctx ends.
func (e *Ends) Run(ctx context.Context) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		if e.quiet { // a sidecar without callers does nothing
			select {
			case <-ctx.Done():
				return
			case <-e.o.Callers.Heard():
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := e.look(ctx); err != nil && ctx.Err() == nil {
				e.o.Log.Debug("cannot look for connections to end", "error", err)
			}
		}
	}
}

// EnvoyStarts forgets what the Envoy before used: another one counts its updates anew.
func (e *Ends) EnvoyStarts() { e.anew.Store(true) }

// look reads the open connections first and the current configuration second, so that it never judges a connection by
// an older configuration.
func (e *Ends) look(ctx context.Context) error {
	live := e.o.Callers.Live()
	e.quiet = len(live) == 0
	if e.quiet {
		clear(e.refused)
		return nil
	}
	if err := e.refresh(ctx); err != nil {
		return err
	}
	now := e.o.Now()
	ended := 0
	still := make(map[key]*refusal, len(e.refused))
	for _, c := range live {
		if e.admission == nil || e.admission.Admits(c.Port, c.ID) {
			continue
		}
		of := key{c.Caller, c.Port, c.ID}
		r := e.refused[of]
		if r == nil {
			r = &refusal{since: now}
		}
		still[of] = r
		if e.drains(c, now.Sub(r.since), now) || now.Sub(r.named) < nameAgain {
			continue
		}
		if err := e.o.End(c.Caller); err != nil {
			e.fails(c, err)
			continue
		}
		if r.named.IsZero() {
			ended++
			e.ended.WithLabelValues(reason(c)).Inc()
			e.o.Log.Debug("ending a connection", "caller", c.Caller, "port", c.Port, "id", c.ID, "reason", reason(c))
		}
		r.named = now
		if c.HTTP {
			e.o.Callers.Ended(c)
		}
	}
	e.refused = still
	if ended > 0 {
		e.o.Log.Info("ending connections in plain text to a strict port, or from callers that policies refuse", "connections", ended)
	}
	return nil
}

// drains reports whether Envoy can end the connection itself, without loss: it asks HTTP callers to leave with the next
// answer. A silent connection has no next answer.
func (e *Ends) drains(c plaintext.Connection, refused time.Duration, now time.Time) bool {
	drain := e.admission.Drain()
	quiet := !c.Busy && now.Sub(c.Last) >= max(drain/5, time.Second)
	return c.HTTP && !quiet && refused < drain
}

// fails logs the first failure in a row.
func (e *Ends) fails(c plaintext.Connection, err error) {
	if !e.failing {
		e.o.Log.Warn("cannot end a connection that is refused now", "caller", c.Caller, "port", c.Port, "id", c.ID, "error", err)
	}
	e.failing = true
}

func reason(c plaintext.Connection) string {
	if c.ID == "" {
		return plainText
	}
	return byPolicy
}

// refresh reads the current configuration if it may have changed.
func (e *Ends) refresh(ctx context.Context) error {
	if e.anew.Swap(false) {
		e.known = false
	}
	updates, err := e.o.Envoy.ListenerUpdates(ctx)
	if err != nil || e.known && updates == e.updates {
		return err
	}
	admission, settled, err := e.o.Envoy.Admission(ctx)
	if err != nil {
		return errors.Join(errors.New("read Envoy's admission rules"), err)
	}
	e.admission, e.known, e.updates = admission, settled, updates
	return nil
}
