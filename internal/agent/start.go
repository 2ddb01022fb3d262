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

// Envoy tells nobody that it is ready, so it has to be asked: soon, and then ever less often.
const (
	firstAsk   = 10 * time.Millisecond
	slowestAsk = time.Second
	askGrowth  = 1.25
)

// startupWait is how long those who ask for the start are kept waiting before they hear what is missing, and knownWait for how
// long more if they know that already. A probe that gives a time is answered probeMargin before it is over.
const (
	startupWait = 2 * time.Second
	knownWait   = 10 * time.Second
	probeMargin = time.Second
)

// sayAfter is when a start that takes longer than usual is logged with its reason, and sayAgain when it is once more.
const sayAfter, sayAgain = 3 * time.Second, time.Minute

// awaitCapture waits until the capture rules are there, which the container after this one writes: what they can do is part
// of what Envoy tells the control plane. The error is that of ctx.
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

// awaitReady asks until the sidecar is ready or ctx ends. It says in the log what it waits for.
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

// complaint logs what is waited for, when it takes long, when it is something else, and now and then.
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

// started waits until the sidecar has been ready once, no longer than that; the error says what is missing then.
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

// KnownParameter tells /startupz what is missing, as its last answer said.
const KnownParameter = "known"

// serveStarted answers as soon as the sidecar has been ready (what holds the pod's start asks), or something is missing that
// who asks does not know.
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
