package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"
)

const (
	apiProbePeriod  = 5 * time.Second
	apiProbeTimeout = 3 * time.Second
)

// apiHealth watches whether the API server is reachable. It never makes the replica unready: the replica keeps serving
// its last state, and taking every replica away from the sidecars would turn an outage of the API server into an outage
// of the mesh.
type apiHealth struct {
	probe func(context.Context) error
	now   func() time.Time
	up    prometheus.Gauge
	log   logr.Logger

	mu    sync.Mutex
	since time.Time // of the first failure in a row; zero when up
	last  error
}

func newAPIHealth(client rest.Interface, r prometheus.Registerer, log logr.Logger) (*apiHealth, error) {
	h := &apiHealth{
		probe: func(ctx context.Context) error { return client.Get().AbsPath("/readyz").Do(ctx).Error() },
		now:   time.Now,
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_kubernetes_api_up",
			Help: "1 if the Kubernetes API server answered the last probe, else 0. At 0 the control plane keeps serving its last state.",
		}),
		log: log,
	}
	return h, r.Register(h.up)
}

// run probes until ctx ends.
func (h *apiHealth) run(ctx context.Context) {
	ticker := time.NewTicker(apiProbePeriod)
	defer ticker.Stop()
	for {
		h.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (h *apiHealth) look(ctx context.Context) {
	probeCtx, cancel := context.WithTimeout(ctx, apiProbeTimeout)
	defer cancel()
	err := h.probe(probeCtx)
	if ctx.Err() != nil {
		return // our own end, not the API server's
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil && !h.since.IsZero():
		h.log.Info("the Kubernetes API server answers again", "away", h.now().Sub(h.since).Round(time.Second).String())
		h.since = time.Time{}
	case err != nil && h.since.IsZero():
		h.since = h.now()
		h.log.Error(err, "the Kubernetes API server does not answer; keeping the last state")
	}
	h.last = err
	if err == nil {
		h.up.Set(1)
	} else {
		h.up.Set(0)
	}
}

// note returns a note for readiness.
func (h *apiHealth) note() (string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.since.IsZero() {
		return "", nil
	}
	return fmt.Sprintf("no answer since %s, keeping the last state: %v", h.since.UTC().Format(time.RFC3339), h.last), nil
}
