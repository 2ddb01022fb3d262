package server

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// metrics have only the resource type (typeLabel) and the version of connected proxies as labels, so
// their number is bounded.
type metrics struct {
	connected *prometheus.GaugeVec
	responses *prometheus.CounterVec
	resources *prometheus.CounterVec
	nacks     *prometheus.CounterVec
	refused   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mizzen_xds_connected_proxies", Help: "Sidecars with an open ADS stream, by version of their agent."}, []string{"version"}),
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_xds_responses_total", Help: "Delta xDS responses sent, by resource type."}, []string{"type"}),
		resources: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_xds_resources_sent_total", Help: "Resources sent, by resource type."}, []string{"type"}),
		nacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_xds_nacks_total", Help: "Responses that a sidecar refused, by resource type."}, []string{"type"}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mizzen_xds_refused_streams_total", Help: "ADS streams refused because the node could not be read."}),
	}
	if r != nil {
		r.MustRegister(m.connected, m.responses, m.resources, m.nacks, m.refused)
	}
	return m
}

// typeLabel is the short name of a type that Mizzen serves; a client can ask for any other.
func typeLabel(typeURL string) string {
	if typeURL == envoy.EndpointType || slices.Contains(order, typeURL) {
		return shortType(typeURL)
	}
	return "other"
}
