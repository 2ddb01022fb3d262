package casecret

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	errors *prometheus.CounterVec
	usable prometheus.Gauge
	expiry prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, k Kind) (*metrics, error) {
	m := &metrics{
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: k.MetricPrefix + "_secret_errors_total",
			Help: "Reads of the Secret of " + k.Whose + " CA that found it unusable, by reason.",
		}, []string{"reason"}),
		usable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: k.MetricPrefix + "_secret_usable",
			Help: "1 if the Secret of " + k.Whose + " CA could be used when it was last read, else 0.",
		}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: k.MetricPrefix + "_expiry_timestamp_seconds",
			Help: "Unix time at which the CA that signs " + k.Signs + " expires, or a certificate of its chain that expires before.",
		}),
	}
	for _, c := range []prometheus.Collector{m.errors, m.usable, m.expiry} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
