package xds

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics cover the way of a change from the watch to the store. mizzen_xds_convergence_seconds covers the rest, to the
// sidecars.
type metrics struct {
	delay    *prometheus.HistogramVec
	held     prometheus.Gauge
	services prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		delay: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "mizzen_mesh_publish_delay_seconds",
			Help:    "Time from the first event of a change to its publication, by kind. Endpoints are published at once, and Services after a short time without further changes.",
			Buckets: []float64{.001, .005, .025, .05, .1, .25, .5, 1, 2.5, 5}}, []string{"kind"}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_mesh_held_services", Help: "Changed Services that wait to be published."}),
		services: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_mesh_services", Help: "Services in the mesh."}),
	}
	if r != nil {
		r.MustRegister(m.delay, m.held, m.services)
	}
	return m
}

func (m *metrics) published(kind string, since time.Time) {
	if !since.IsZero() {
		m.delay.WithLabelValues(kind).Observe(time.Since(since).Seconds())
	}
}
