package webhookcert

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

type metrics struct {
	secretErrors *prometheus.CounterVec
	secretUsable prometheus.Gauge
	caExpiry     prometheus.Gauge
	mended       prometheus.Counter
}

func newMetrics(r prometheus.Registerer, s *rotation.Serving) (*metrics, error) {
	m := &metrics{
		secretErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_webhook_ca_secret_errors_total",
			Help: "Reads of the webhook's CA Secret that found it unusable, by reason.",
		}, []string{"reason"}),
		secretUsable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_webhook_ca_secret_usable",
			Help: "1 if the webhook's CA Secret could be used when it was last read, else 0.",
		}),
		caExpiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_webhook_ca_expiry_timestamp_seconds",
			Help: "Unix time at which the CA that signs the webhook's serving certificates expires.",
		}),
		mended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mizzen_webhook_ca_bundle_mended_total",
			Help: "Wrong caBundles that this replica corrected.",
		}),
	}
	leafExpiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "mizzen_webhook_certificate_expiry_timestamp_seconds",
		Help: "Unix time at which the serving certificate of this replica expires; 0 if it has none.",
	}, func() float64 {
		cert, err := s.Certificate()
		if err != nil {
			return 0
		}
		return float64(cert.Leaf.NotAfter.Unix())
	})
	for _, c := range []prometheus.Collector{m.secretErrors, m.secretUsable, m.caExpiry, m.mended, leafExpiry} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) good(s rotation.State) {
	m.secretUsable.Set(1)
	m.caExpiry.Set(float64(s.Signer.Certificate().NotAfter.Unix()))
}

func (m *metrics) bad(reason string) {
	m.secretUsable.Set(0)
	m.secretErrors.WithLabelValues(reason).Inc()
}
