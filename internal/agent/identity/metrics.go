package identity

import "github.com/prometheus/client_golang/prometheus"

// Results of a request for a certificate, as metric label.
const (
	resultSigned      = "signed"
	resultRefused     = "refused"     // the control plane says no: 4xx
	resultUnavailable = "unavailable" // it cannot be reached, is overloaded, or cannot sign at present
	resultInvalid     = "invalid"     // what it answered is of no use
	resultToken       = "no_token"    // there is no token to show
)

type metrics struct {
	expiry   prometheus.Gauge
	requests *prometheus.CounterVec
	rejected prometheus.Counter
	roots    *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		expiry: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_agent_certificate_expiry_timestamp_seconds",
			Help: "Unix time at which the workload's certificate expires, by the node's clock; 0 before the first certificate.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_agent_certificate_requests_total",
			Help: "Requests for a certificate by result: signed, refused, unavailable, invalid or no_token.",
		}, []string{"result"}),
		rejected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mizzen_agent_secrets_rejected_total",
			Help: "Certificates and roots that Envoy refused. Envoy keeps the previous ones.",
		}),
		roots: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mizzen_agent_trust_bundle_roots",
			Help: "Number of roots that the workload trusts; the label is the version of the bundle.",
		}, []string{"version"}),
	}
	for _, result := range []string{resultSigned, resultRefused, resultUnavailable, resultInvalid, resultToken} {
		m.requests.WithLabelValues(result)
	}
	r.MustRegister(m.expiry, m.requests, m.rejected, m.roots)
	return m
}

func (m *metrics) setRoots(r roots) {
	m.roots.Reset()
	m.roots.WithLabelValues(r.version).Set(float64(len(r.certs)))
}
