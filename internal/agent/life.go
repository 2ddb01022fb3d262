package agent

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// Pauses before Envoy is started again. The first end that follows a life of steadyAfter costs none. Those that follow soon cost ever
// more, so that an Envoy that cannot live takes a twentieth of a CPU at most; but never what the kubelet's back-off would: that grows
// to five minutes, in which the application reaches nobody.
// https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy
const (
	steadyAfter  = 10 * time.Second
	firstPause   = 100 * time.Millisecond
	longestPause = 2 * time.Second
)

// restarts knows the pause after the next short life.
type restarts struct{ next time.Duration }

// pause returns the one that follows a life.
func (r *restarts) pause(lived time.Duration) time.Duration {
	if lived >= steadyAfter {
		r.next = 0
	}
	pause := r.next
	r.next = min(max(2*pause, firstPause), longestPause)
	return pause
}

// life is one of Envoy's, from before its process starts.
type life struct {
	// down says why there is no process; nil where there is one.
	down atomic.Pointer[string]
	// configured is set once Envoy has accepted its first listeners.
	configured atomic.Bool
	// missing is awaitReady's last result, nil while it does not run.
	missing atomic.Pointer[string]
	// ready is closed once Envoy has been ready.
	ready chan struct{}
}

func newLife() *life { return &life{ready: make(chan struct{})} }

// live starts Envoy, and starts it again where it ends after it has served, so that the pod does not wait for the kubelet. Who has never
// served is left to the kubelet, which shows that something is wrong. When ctx ends, it drains and stops Envoy and returns nil.
// An error from failed ends Envoy, too.
func (a *agent) live(ctx context.Context, failed <-chan error) error {
	for r := (restarts{}); ; {
		envoy, err := a.startLife(ctx)
		if err != nil {
			return err
		}
		began := time.Now()
		select {
		case <-envoy.done:
			switch {
			case ctx.Err() != nil:
				return nil //nolint:nilerr // the pod ends
			case !a.served.Load():
				return envoy.exitError()
			}
		case err := <-failed:
			envoy.stop(stopGrace)
			return err
		case <-ctx.Done():
			a.draining.Store(true)
			a.settings.kind().drain(ctx, a, envoy)
			envoy.stop(stopGrace)
			return nil
		}
		pause := r.pause(time.Since(began))
		a.endLife(envoy.exitError(), time.Since(began), pause)
		select {
		case <-time.After(pause):
		case err := <-failed:
			return err
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the pod ends
		}
	}
}

func (a *agent) startLife(ctx context.Context) (*envoyProcess, error) {
	// A killed Envoy leaves its socket behind.
	if err := os.Remove(a.settings.adminSocket()); err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("old admin socket: %w", err)
	}
	for _, forget := range a.onStart {
		forget()
	}
	envoy, err := startEnvoy(a.settings)
	if err != nil {
		return nil, err
	}
	a.log.Info("Envoy started", "pid", envoy.cmd.Process.Pid, "controlPlane", a.settings.ControlPlane, "node", a.settings.Node.ID())
	now := a.life.Load()
	now.down.Store(nil)
	go a.awaitReady(ctx, now)
	return envoy, nil
}

// endLife tells of an end, and begins the next life.
func (a *agent) endLife(how error, lived, pause time.Duration) {
	a.metrics.restarts.Inc()
	args := []any{"reason", how, "lived", lived.Round(time.Millisecond), "pause", pause}
	if n := oomKills(cgroups); n > 0 {
		args = append(args, "oomKills", n, "memoryLimit", a.settings.MemoryLimit)
	}
	a.log.Error("Envoy is started again", args...)
	next, why := newLife(), fmt.Sprintf("%s; it is started again after %s", how, pause)
	next.down.Store(&why)
	a.life.Store(next)
}
