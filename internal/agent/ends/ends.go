// Package ends ends connections to the pod that are not to live any more: those in plain text where the pod has become
// strict, and those of callers whom policies refuse. Envoy judges a connection when it begins, and looks at one that lives
// when something is said on it, if at all. It may import internal/agent/plaintext, internal/capture and internal/sds of this module.
package ends

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

const (
	// lookAgain is how often connections that live are held against what Envoy has in use. While none lives nothing is done.
	lookAgain = time.Second
	// nameAgain is how often a connection that lives on is named to the capture rules, which forget it after a while.
	nameAgain = 10 * time.Second
)

// Envoy is what is asked of it.
type Envoy interface {
	// ListenerUpdates is how many updates of listeners it has taken.
	ListenerUpdates(context.Context) (uint64, error)
	// Admission is what is in use; nil where the control plane has said nothing. It is settled when no other is on its way.
	Admission(context.Context) (a *sds.Admission, settled bool, err error)
}

// Options are what Ends are told.
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

	// quiet is that nothing lived when it was looked last.
	quiet bool
	// known is that admission is what has been in use since so many updates.
	known     bool
	updates   uint64
	admission *sds.Admission
	// refused are connections that live and should not.
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
	// named is when the capture rules were told last.
	named time.Time
}

// New ends nothing before Run.
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
		if e.quiet { // a sidecar that nobody calls rests
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

// look reads which connections live before it reads what is in use, so that no connection is judged by what was in use
// before it began.
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

// drains reports whether Envoy may end the connection by itself, without a loss: it tells the callers of HTTP to go with the
// next answer. One that is quiet gets none.
func (e *Ends) drains(c plaintext.Connection, refused time.Duration, now time.Time) bool {
	drain := e.admission.Drain()
	quiet := !c.Busy && now.Sub(c.Last) >= max(drain/5, time.Second)
	return c.HTTP && !quiet && refused < drain
}

// fails tells once.
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

// refresh reads what is in use where it may be another than before.
func (e *Ends) refresh(ctx context.Context) error {
	updates, err := e.o.Envoy.ListenerUpdates(ctx)
	if err != nil || e.known && updates == e.updates {
		return err
	}
	admission, settled, err := e.o.Envoy.Admission(ctx)
	if err != nil {
		return errors.Join(errors.New("what Envoy has in use"), err)
	}
	e.admission, e.known, e.updates = admission, settled, updates
	return nil
}
