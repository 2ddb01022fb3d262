package authority

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	errors  *prometheus.CounterVec
	usable  prometheus.Gauge
	expiry  prometheus.Gauge
	lacking prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, m *Manager) (*metrics, error) {
	out := &metrics{
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_identity_ca_secret_errors_total",
			Help: "Looks at the Secret of the mesh's CA that found it unusable, by reason.",
		}, []string{"reason"}),
		usable: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_identity_ca_secret_usable",
			Help: "1 when the Secret of the mesh's CA, as last read, can be used.",
		}),
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_identity_ca_expiry_timestamp_seconds",
			Help: "When the CA that signs the certificates of sidecars expires, or one that it stands on.",
		}),
		lacking: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_identity_bundle_lacking",
			Help: "During a rotation: sidecars, pods that start and replicas, as this replica sees them, that do not have the present trust bundle.",
		}),
	}
	for _, c := range []prometheus.Collector{out.errors, out.usable, out.expiry, out.lacking, bundleInfo{m}} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// bundleInfo tells the version of the bundle as a label.
type bundleInfo struct{ m *Manager }

var bundleInfoDesc = prometheus.NewDesc("mizzen_identity_bundle_info",
	"1, with the version of the trust bundle.", []string{"version"}, nil)

func (b bundleInfo) Describe(out chan<- *prometheus.Desc) { out <- bundleInfoDesc }

func (b bundleInfo) Collect(out chan<- prometheus.Metric) {
	if v := b.m.view.Load(); v.version != "" {
		out <- prometheus.MustNewConstMetric(bundleInfoDesc, prometheus.GaugeValue, 1, v.version)
	}
}
