package authority

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	lacking prometheus.Gauge
	// bundle has one series, of the present version.
	bundle *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	out := &metrics{
		lacking: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_identity_bundle_lacking",
			Help: "During a rotation: sidecars, starting pods and replicas that do not have the current trust bundle, as this replica sees them.",
		}),
		bundle: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mizzen_identity_bundle_info",
			Help: "Always 1; the label is the version of the trust bundle.",
		}, []string{"version"}),
	}
	for _, c := range []prometheus.Collector{out.lacking, out.bundle} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// use takes over the version of the trust bundle.
func (m *metrics) use(version string) {
	m.bundle.Reset()
	m.bundle.WithLabelValues(version).Set(1)
}
