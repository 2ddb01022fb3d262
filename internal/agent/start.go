package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// FirstAsk is the pause after which something that tells nobody when it is ready is asked again, as Envoy, and an agent
// that does not listen yet. NextAsk returns the pause after that: it is asked ever less often.
const (
	FirstAsk   = 10 * time.Millisecond
	slowestAsk = time.Second
	askGrowth  = 1.25
)

// NextAsk returns the pause that follows one.
func NextAsk(pause time.Duration) time.Duration {
	return min(time.Duration(askGrowth*float64(pause)), slowestAsk)
}

// startupWait is how long those who ask for the start are kept waiting before they hear what is missing, and knownWait for how
// long more if they know that already. A probe that gives a time is answered probeMargin before it is over.
const (
	startupWait = 2 * time.Second
	knownWait   = 10 * time.Second
	probeMargin = time.Second
)

// sayAfter is the time after which a slow start is logged with its reason, and sayAgain the interval after that.
const sayAfter, sayAgain = 3 * time.Second, time.Minute

// awaitCapture waits until check finds the capture rules, which the container after this one writes: what they can do is
// part of what Envoy tells the control plane. The error is that of ctx.
func awaitCapture(ctx context.Context, check func(context.Context) error, log *slog.Logger) error {
	say := complaint{log: log, next: time.Now().Add(sayAfter)}
	return await(ctx, check, func(error) {
		say.waiting("waiting for the capture rules: container " + fixed.CaptureContainer + " has not written them")
	})
}

// await asks check until it says nil. missing is told each time why it does not. The error is that of ctx.
func await(ctx context.Context, check func(context.Context) error, missing func(error)) error {
	for pause := FirstAsk; ; pause = NextAsk(pause) {
		err := check(ctx)
		if err == nil {
			return nil
		}
		missing(err)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitReady polls until Envoy is ready, its life is over, or ctx ends. It logs what it waits for.
func (a *agent) awaitReady(ctx context.Context, of *life) {
	say := complaint{log: a.log, next: time.Now().Add(sayAfter)}
	if a.identity != nil {
		for waiting := true; waiting; {
			select {
			case <-a.identity.Obtained():
				waiting = false
			case <-a.identity.Failed():
				say.waiting(a.identity.Missing())
			case <-time.After(time.Until(say.next)):
				say.waiting(a.identity.Missing())
			case <-ctx.Done():
				return
			}
		}
	}
	defer of.missing.Store(nil)
	last, pause := "", FirstAsk
	before, reached := "", FirstAsk // of the reason before last, and how long the pauses were by then
	for {
		err := a.readiness(ctx)
		if a.life.Load() != of {
			return // the next one has its own
		}
		if err == nil {
			break
		}
		if reason := err.Error(); reason != last {
			if reason == before { // it was nothing: Envoy seems connected for the moment in which a call fails
				before, last, pause = "", reason, max(pause, reached)
			} else { // something goes on
				before, last, reached, pause = last, reason, pause, FirstAsk
			}
			of.missing.Store(&reason)
		}
		select {
		case <-time.After(pause):
			pause = NextAsk(pause)
		case <-ctx.Done():
			return
		}
		say.waiting(last)
	}
	close(of.ready)
	say.ended()
}

// complaint logs the reason of a wait: when the wait is long, when the reason changes, and from time to time.
type complaint struct {
	log  *slog.Logger
	said string
	next time.Time
}

func (c *complaint) waiting(reason string) {
	now := time.Now()
	if now.Before(c.next) && (c.said == "" || c.said == reason) {
		return
	}
	c.said, c.next = reason, now.Add(sayAgain)
	c.log.Warn("not ready", "reason", reason)
}

func (c *complaint) ended() {
	if c.said != "" {
		c.log.Warn("ready")
	}
}

// started waits, for at most this time, until Envoy has been ready once since its last start. Otherwise the error says what is missing.
func (a *agent) started(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	now := a.life.Load()
	select {
	case <-now.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	if missing := now.missing.Load(); missing != nil {
		return errors.New(*missing) // as of a moment ago: nobody but awaitReady need ask Envoy
	}
	return a.readiness(ctx)
}

// KnownParameter passes the reason in the last answer back to /startupz.
const KnownParameter = "known"

// serveStarted answers the container that holds the pod's start, as soon as the sidecar has been ready, or when the
// reason differs from the one that the caller knows.
func (a *agent) serveStarted(w http.ResponseWriter, r *http.Request) {
	known := r.FormValue(KnownParameter)
	err := a.started(r.Context(), startupWait)
	if err != nil && err.Error() == known {
		err = a.started(r.Context(), knownWait)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}
