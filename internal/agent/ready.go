package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// adminTimeout bounds a request to Envoy, so that the kubelet's event reports a hung Envoy and not a timeout.
const adminTimeout = 900 * time.Millisecond

// readiness returns nil once Envoy serves, and otherwise the reason why it does not. Envoy reports LIVE when it has
// received its first clusters and listeners, even if it has refused the listeners. Without listeners captured
// connections would be refused, so that is not ready. Once ready, Envoy stays ready if the control plane disappears or
// sends something invalid.
func (a *agent) readiness(ctx context.Context) error {
	if a.draining.Load() {
		return fmt.Errorf("the %s is shutting down", a.settings.kind().name())
	}
	if a.identity != nil {
		if missing := a.identity.Missing(); missing != "" {
			return errors.New(missing)
		}
	}
	now := a.life.Load()
	if down := now.down.Load(); down != nil {
		return errors.New(*down)
	}
	ctx, cancel := context.WithTimeout(ctx, adminTimeout)
	defer cancel()
	if !now.configured.Load() {
		stats, err := a.admin.stats(ctx, firstConfigStats)
		if err != nil {
			return notAnswered(err)
		}
		if stats[statLDSOK] == 0 {
			return errors.New(a.waitingFor(stats))
		}
	}
	state, err := a.admin.state(ctx)
	if err != nil {
		return notAnswered(err)
	}
	if state != "LIVE" {
		return fmt.Errorf("Envoy is %s: waiting for the listeners to start", state) //nolint:staticcheck // a name
	}
	now.configured.Store(true)
	a.served.Store(true)
	return nil
}

func notAnswered(err error) error {
	return fmt.Errorf("Envoy does not answer yet: %w", err) //nolint:staticcheck // a name
}

// Statistics that show the progress of the first configuration.
const (
	statConnected   = "control_plane.connected_state"
	statCDSOK       = "cluster_manager.cds.update_success"
	statCDSRejected = "cluster_manager.cds.update_rejected"
	statLDSOK       = "listener_manager.lds.update_success"
	statLDSRejected = "listener_manager.lds.update_rejected"

	firstConfigStats = `^(control_plane\.connected_state|(cluster_manager\.cds|listener_manager\.lds)\.update_(success|rejected))$`
)

func (a *agent) waitingFor(stats map[string]uint64) string {
	controlPlane := fmt.Sprintf("the control plane (%s)", a.settings.ControlPlane)
	switch {
	case stats[statCDSRejected]+stats[statLDSRejected] > 0 && stats[statLDSOK] == 0:
		return "refused what " + controlPlane + " sent, see Envoy's log"
	case stats[statConnected] == 0:
		return "waiting for " + controlPlane + ": not connected"
	case stats[statCDSOK] == 0:
		return "waiting for " + controlPlane + ": connected, no clusters yet"
	}
	return "waiting for " + controlPlane + ": connected, no listeners yet"
}

func (a *agent) serveReady(w http.ResponseWriter, r *http.Request) {
	if err := a.readiness(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}
