package issuer

import "github.com/prometheus/client_golang/prometheus"

type metrics struct{ certificates *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{certificates: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mizzen_identity_requests_total",
		Help: "Certificate requests of agents, by result: signed, or the reason of the refusal: a bad request or key (request), a bad token (token), " +
			"another identity than the pod's (identity), no such pod (pod), another source address than the pod's (address), a bad client certificate (certificate), " +
			"too many requests (rate) or connections (connections), no TLS (handshake), a control plane that cannot sign (unavailable).",
	}, []string{"result"})}
	return m, r.Register(m.certificates)
}
