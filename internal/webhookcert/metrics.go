package webhookcert

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/internal/casecret"
)

func newMetrics(r prometheus.Registerer, s *casecret.Store) (mended prometheus.Counter, err error) {
	mended = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "mizzen_webhook_ca_bundle_mended_total",
		Help: "Wrong caBundles that this replica corrected.",
	})
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
	return mended, errors.Join(r.Register(mended), r.Register(leafExpiry))
}
