package authority

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	errors  *prometheus.CounterVec
	usable  prometheus.Gauge
	expiry  prometheus.Gauge
	lacking prometheus.Gauge
	// bundle has one series, of the present version.
	bundle *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	out := &metrics{
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_identity_ca_secret_errors_total",
			Help: "Reads of the Secret of the mesh's CA that found it unusable, by reason.",
		}, []string{"reason"}),
		usable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_identity_ca_secret_usable",
			Help: "1 if the Secret of the mesh's CA could be used when it was last read, else 0.",
		}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_identity_ca_expiry_timestamp_seconds",
			Help: "Unix time at which the CA that signs sidecars' certificates expires, or a certificate of its chain that expires before.",
		}),
		lacking: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_identity_bundle_lacking",
			Help: "During a rotation: sidecars, starting pods and replicas that do not have the current trust bundle, as this replica sees them.",
		}),
		bundle: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mizzen_identity_bundle_info",
			Help: "Always 1; the label is the version of the trust bundle.",
		}, []string{"version"}),
	}
	for _, c := range []prometheus.Collector{out.errors, out.usable, out.expiry, out.lacking, out.bundle} {
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
