// Package callmetrics has the names under which the agent shows what Envoy counts of the calls to Services, and makes Envoy's
// exposition so. Attributes that OpenTelemetry has a name for have that name, as Prometheus writes it
// (https://opentelemetry.io/docs/specs/semconv/). It may import the standard library and internal/answers only.
package callmetrics

// Metrics of calls, each by Destination and Source.
const (
	Requests          = "mizzen_outbound_requests_total"
	Duration          = "mizzen_outbound_request_duration_seconds"
	GRPCErrors        = "mizzen_outbound_grpc_errors_total"
	Retries           = "mizzen_outbound_retries_total"
	Connections       = "mizzen_outbound_connections"
	ConnectionsOpened = "mizzen_outbound_connections_opened_total"
	ConnectFailures   = "mizzen_outbound_connect_failures_total"
	BytesSent         = "mizzen_outbound_sent_bytes_total"
	BytesReceived     = "mizzen_outbound_received_bytes_total"
)

// Labels.
const (
	// SourceNamespace and SourceWorkload, "<kind>/<name>", are the caller's.
	SourceNamespace = "source_namespace"
	SourceWorkload  = "source_workload"
	// DestinationNamespace, DestinationService and DestinationPort are the called port of a Service.
	DestinationNamespace = "destination_namespace"
	DestinationService   = "destination_service"
	DestinationPort      = "destination_port"
	// StatusCode is that of the answer to a request, such as "200".
	StatusCode = "http_response_status_code"
	// GRPCStatus is the name of a gRPC status, such as "UNAVAILABLE".
	GRPCStatus = "rpc_response_status_code"
)

// Metric is one of ours, and what Envoy calls it. Kind is that of Prometheus's text format.
type Metric struct {
	Envoy, Name, Kind, Help string
}

// All are the metrics of calls.
var All = []Metric{
	{"envoy_cluster_upstream_rq", Requests, "counter", "Requests to a Service, by the status of the answer that the application got. A try that another one follows is not counted here."},
	{"envoy_cluster_upstream_rq_time", Duration, "histogram", "Time from a request to the end of its answer, in seconds."},
	{"envoy_outbound_grpc_errors", GRPCErrors, "counter", "gRPC calls that ended with another status than OK."},
	{"envoy_cluster_upstream_rq_retry", Retries, "counter", "Tries beyond the first one of requests."},
	{"envoy_cluster_upstream_cx_active", Connections, "gauge", "Open connections to the pods of a Service."},
	{"envoy_cluster_upstream_cx_total", ConnectionsOpened, "counter", "Connections that were opened to the pods of a Service, those that failed included."},
	{"envoy_cluster_upstream_cx_connect_fail", ConnectFailures, "counter", "Connections that could not be made."},
	{"envoy_cluster_upstream_cx_tx_bytes_total", BytesSent, "counter", "Bytes sent to the pods of a Service."},
	{"envoy_cluster_upstream_cx_rx_bytes_total", BytesReceived, "counter", "Bytes received from the pods of a Service."},
}

// EnvoyName returns what Envoy calls a metric of All.
func EnvoyName(name string) string {
	for _, m := range All {
		if m.Name == name {
			return m.Envoy
		}
	}
	return ""
}
