package agent

import "github.com/mizzen-mesh/mizzen/internal/answers"

// statsConfig keeps few statistics, because Envoy allocates and Prometheus stores each of them for every pod. Envoy
// never allocates statistics that are not listed.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/metrics/v3/stats.proto
func statsConfig(prefixes, patterns []string) object {
	return object{
		"stats_matcher":             object{"inclusion_list": object{"patterns": inclusions(prefixes, patterns)}},
		"stats_tags":                tags(),
		"use_all_default_tags":      false,
		"histogram_bucket_settings": buckets(),
	}
}

// Statistics of a sidecar to keep. Names of HTTP connection managers, TCP proxies and listeners are few and fixed. There may be many
// clusters, so each statistic of a cluster must be worth its series.
var (
	keptPrefixes = []string{"cluster_manager.", "control_plane.", "listener_manager.", "outbound_grpc.", "tcp.", answers.StatPrefix + "." + answers.Stat}
	keptPatterns = []string{
		// The name of a cluster has no dot, or is an IPv4 address and port. Statistics with a further element
		// ("internal", "external", "canary", zones) count the same requests again.
		`cluster\.([^.]+|[0-9.]+_[0-9]+)\.(` +
			`upstream_cx_(active|connect_fail|connect_ms|connect_timeout|destroy_(local|remote)_with_active_rq|http[12]_total|none_healthy|overflow|[rt]x_bytes_total|total)` +
			`|upstream_rq_([0-9]xx|[0-9]{3}|active|active_overflow|cancelled|pending_(active|overflow|total)|per_try_timeout|retry|retry_(limit_exceeded|overflow|success)|[rt]x_reset|time|timeout|total)` +
			`|membership_(change|healthy|total)` +
			// Requests that are too large to be retried or mirrored.
			`|retry_or_shadow_abandoned` +
			// Clusters without outlier detection do not have these.
			`|outlier_detection\.ejections_(active|enforced_total|overflow)` +
			// Envoy never shows this statistic. It needs it at a cluster's update to know that the deferred statistics
			// exist.
			`|ClusterTrafficStats\.initialized)`,
		// No name of ours begins with an "a"; Envoy's own "admin" and "async-client" do. A listener
		// without a name for its statistics goes by its address.
		`http\.[^.a][^.]*\.(downstream_(cx|rq)_.+|no_route|rq_total)`,
		// Refusals by AuthorizationPolicies, also in dry run.
		`(http\.inbound_http\.|inbound_tcp\.)((deny|allow)\.)?rbac\.((deny|allow)\.)?(shadow_)?denied`,
		`listener\.([^.a][^.]*|[0-9.]+_[0-9]+)\.(downstream_cx_[^.]+|ssl\.[^.]+|no_filter_chain_match)`,
		`server\.(concurrency|days_until_first_cert_expiring|envoy_bug_failures|live|memory_.+|state|total_connections|uptime|version)`,
	}
)

func inclusions(prefixes, patterns []string) []object {
	var list []object
	for _, p := range prefixes {
		list = append(list, object{"prefix": p})
	}
	for _, p := range patterns {
		list = append(list, object{"safe_regex": object{"regex": p}})
	}
	return list
}

// tags turn parts of a statistic's name into Prometheus labels. The first group is removed from the name, and the
// second is the label's value. Clusters of Services are named "outbound/<namespace>/<service>/<port>". The labels say
// destination_… because Prometheus itself puts the scraped pod's "namespace" and "service" on every series.
func tags() []object {
	regex := func(name, expression string) object { return object{"tag_name": name, "regex": expression} }
	builtIn := func(name string) object { return object{"tag_name": name} }
	return []object{
		regex("destination_namespace", `^cluster\.(outbound/([^/]+)/[^/]+/[0-9]+\.)`),
		regex("destination_service", `^cluster\.(outbound/[^/]+/([^/]+)/[0-9]+\.)`),
		regex("destination_port", `^cluster\.(outbound/[^/]+/[^/]+/([0-9]+)\.)`),
		// Names without a slash: the control plane, passthrough, <ip>:<port> (Envoy writes ip_port).
		regex("envoy.cluster_name", `^cluster\.(([^/]+)\.)(?:upstream_|membership_|retry_|outlier_detection)`),
		regex("policy_action", `^(?:http\.inbound_http|inbound_tcp)\.(?:rbac\.)?((deny|allow)\.)`),
		builtIn("envoy.http_conn_manager_prefix"),
		builtIn("envoy.tcp_prefix"),
		regex("envoy.listener", `^listener\.(([0-9.]+_[0-9]+|[^.]+)\.)`),
		builtIn("envoy.response_code"),
		builtIn("envoy.response_code_class"),
	}
}

// buckets returns 14 buckets in place of Envoy's 19, in milliseconds: from the shortest calls inside a cluster to the
// longest for which anybody waits.
func buckets() []object {
	return []object{{
		"match":   object{"safe_regex": object{"regex": ".+"}},
		"buckets": []float64{0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30000, 300000},
	}}
}
