package issuer

import "github.com/prometheus/client_golang/prometheus"

type metrics struct{ certificates *prometheus.CounterVec }

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{certificates: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mizzen_identity_requests_total",
		Help: "Requests of agents by result: signed, or why they were refused: the request or its key is bad (request), the token is (token), " +
			"it is for another identity (identity), the pod is not there (pod) or elsewhere (address), the client's certificate is bad (certificate), " +
			"too many (rate, connections), no TLS (handshake), the control plane cannot (unavailable).",
	}, []string{"result"})}
	return m, r.Register(m.certificates)
}
