package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/capture"
)

// Envoy does not report readiness, so the agent polls, with pauses that begin short and grow.
const (
	firstAsk   = 10 * time.Millisecond
	slowestAsk = time.Second
	askGrowth  = 1.25
)

// startupWait is how long a caller of the startup page waits for the start before it gets the reason, and knownWait is
// the additional time for a caller that knows the reason. A probe with a timeout gets its answer probeMargin before the
// timeout.
const (
	startupWait = 2 * time.Second
	knownWait   = 10 * time.Second
	probeMargin = time.Second
)

// sayAfter is the time after which a slow start is logged with its reason, and sayAgain the interval after that.
const sayAfter, sayAgain = 3 * time.Second, time.Minute

// awaitCapture waits for the capture rules, which the next container writes. Envoy reports their capabilities to the
// control plane, so it must not start earlier. The error is ctx's.
func awaitCapture(ctx context.Context, s Settings, log *slog.Logger) error {
	say := complaint{log: log, next: time.Now().Add(sayAfter)}
	for pause := firstAsk; s.AwaitCapture && !capture.OwnCallsCaptured(s.Node.IPs[0]); pause = nextAsk(pause) {
		select {
		case <-time.After(pause):
			say.waiting("waiting for the capture rules: container " + config.CaptureContainer + " has not written them")
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func nextAsk(pause time.Duration) time.Duration {
	return min(time.Duration(askGrowth*float64(pause)), slowestAsk)
}

// awaitReady polls until the sidecar is ready or ctx ends. It logs what it waits for.
func (a *agent) awaitReady(ctx context.Context) {
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
	defer a.missing.Store(nil)
	last, pause := "", firstAsk
	before, reached := "", firstAsk // of the reason before last, and how long the pauses were by then
	for {
		err := a.readiness(ctx)
		if err == nil {
			break
		}
		if reason := err.Error(); reason != last {
			if reason == before { // it was nothing: Envoy seems connected for the moment in which a call fails
				before, last, pause = "", reason, max(pause, reached)
			} else { // something goes on
				before, last, reached, pause = last, reason, pause, firstAsk
			}
			a.missing.Store(&reason)
		}
		select {
		case <-time.After(pause):
			pause = nextAsk(pause)
		case <-ctx.Done():
			return
		}
		say.waiting(last)
	}
	close(a.startDone)
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
	c.log.Warn("not ready, so the pod's containers wait", "reason", reason)
}

func (c *complaint) ended() {
	if c.said != "" {
		c.log.Warn("ready")
	}
}

// started waits, for at most this time, until the sidecar has been ready once. Otherwise the error says what is
// missing.
func (a *agent) started(ctx context.Context, wait time.Duration) error {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-a.startDone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	if missing := a.missing.Load(); missing != nil {
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
