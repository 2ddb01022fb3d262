package server

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// cause is why a response was sent.
type cause string

const (
	causeSubscribe cause = "subscribe" // the proxy asked
	causeChange    cause = "change"    // something changed
)

// metrics have only labels with few values: the resource type (typeLabel), the cause, the reason of a refusal and the
// version of connected proxies.
type metrics struct {
	connected   *prometheus.GaugeVec
	responses   *prometheus.CounterVec
	resources   *prometheus.CounterVec
	bytes       *prometheus.CounterVec
	nacks       *prometheus.CounterVec
	refused     *prometheus.CounterVec
	beyond      prometheus.Counter
	convergence *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer, s *Server) *metrics {
	byType := []string{"type"}
	m := &metrics{
		connected: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mizzen_xds_connected_proxies", Help: "Sidecars with an open ADS stream, by agent version."}, []string{"version"}),
		responses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_xds_responses_total",
			Help: "Delta xDS responses sent, by resource type and cause: a request of the sidecar (subscribe), or a change (change)."}, []string{"type", "cause"}),
		resources: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_xds_resources_sent_total", Help: "Resources sent, by resource type."}, byType),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_xds_resource_bytes_sent_total", Help: "Bytes of the resources sent, by resource type."}, byType),
		nacks: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_xds_nacks_total", Help: "Responses that a sidecar refused, by resource type."}, byType),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_xds_refused_streams_total",
			Help: "ADS streams that were refused or ended, by reason: an unreadable node (node), a missing or invalid client certificate (certificate), an expired one (expired), one of another pod (identity), too many streams from one address (streams), too many requests or names (names)."},
			[]string{"reason"}),
		beyond: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mizzen_xds_pod_addresses_refused_total",
			Help: "Requests for pod addresses that were refused because a sidecar had too many at a time. The control plane's log names the sidecar."}),
		convergence: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "mizzen_xds_convergence_seconds",
			Help:    "Time from the publication of a change to its acknowledgement by one sidecar, by resource type.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}}, byType),
	}
	for _, typeURL := range served {
		m.nacks.WithLabelValues(shortType(typeURL)) // so that the first one is an increase
	}
	if r == nil {
		return m
	}
	gauge := func(name, help string, count func(*stream) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(s.sum(count)) })
	}
	r.MustRegister(m.connected, m.responses, m.resources, m.bytes, m.nacks, m.refused, m.beyond, m.convergence,
		gauge("mizzen_xds_pending_changes", "Changes that have not been sent to a sidecar yet, summed over all sidecars.", (*stream).queued),
		gauge("mizzen_xds_unacknowledged_responses", "Responses that sidecars have not acknowledged yet.", (*stream).unacknowledged))
	return m
}

func (m *metrics) sent(typeURL string, c cause, set []*entry) {
	label := typeLabel(typeURL)
	size := 0
	for _, e := range set {
		size += e.wire.Len()
	}
	m.responses.WithLabelValues(label, string(c)).Inc()
	m.resources.WithLabelValues(label).Add(float64(len(set)))
	m.bytes.WithLabelValues(label).Add(float64(size))
}

// served are the types of resources that Mizzen serves.
var served = []string{
	envoy.ClusterType, envoy.EndpointType, envoy.RouteType, envoy.ScopedRouteType, envoy.ListenerType, envoy.PodAddressType, envoy.SecretType, envoy.VirtualHostType,
}

// typeLabel returns the short name of a type that Mizzen serves, and "other" for any other that a client asks for.
func typeLabel(typeURL string) string {
	if slices.Contains(served, typeURL) {
		return shortType(typeURL)
	}
	return "other"
}
