package agent

import (
	"encoding/json"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/answers"
)

// controlPlaneCluster is the static cluster of the ADS server.
const controlPlaneCluster = "mizzen-control-plane"

// controlPlaneRetry bounds Envoy's wait before it resolves or calls the control plane's address again. A starting pod
// waits for both.
const controlPlaneRetry = 2 * time.Second

// httpOptionsKey is the key of a cluster's HTTP options.
const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// object is a message of Envoy's in JSON. The agent has none of Envoy's Go types for the bootstrap, which would cost every pod
// some megabytes for as long as it lives. Tests read the result into these types.
type object = map[string]any

// Bootstrap returns Envoy's static configuration in JSON: its node, the control plane, the admin interface and the statistics
// to keep. Everything else comes over ADS. It is pure.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/bootstrap/v3/bootstrap.proto
func Bootstrap(s Settings) ([]byte, error) {
	cluster, err := controlPlane(s)
	if err != nil {
		return nil, err
	}
	clusters := []object{cluster}
	if s.IdentityAddress != "" {
		clusters = append(clusters, secretsCluster(s.Dir))
	}
	return json.Marshal(object{
		"node":              object{"id": s.Node.ID(), "cluster": s.Node.Cluster(), "metadata": s.Node.Metadata()},
		"admin":             admin(s.adminSocket()),
		"dynamic_resources": dynamicResources(),
		"static_resources":  object{"clusters": clusters},
		"stats_config":      statsConfig(s.kind().statistics()),
		// Create a cluster's statistics at its first request, which saves 9 kB for each Service that is never called.
		"deferred_stat_options": object{"enable_deferred_creation_stats": true},
		"layered_runtime":       layeredRuntime(s),
		"overload_manager":      s.kind().overloadManager(s),
		"watchdogs":             watchdogs(),
		"bootstrap_extensions":  []object{internalListeners()},
	})
}

// internalListeners enables listeners without sockets, such as the one that detects protocols.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/other_features/internal_listener
func internalListeners() object {
	return object{
		"name":         "envoy.bootstrap.internal_listener",
		"typed_config": typed("envoy.extensions.bootstrap.internal_listener.v3.InternalListener", nil),
	}
}

// admin listens on a Unix socket, because the admin interface can stop Envoy and show its configuration. TCP on
// loopback would be open to every container of the pod.
func admin(path string) object {
	return object{"address": object{"pipe": object{"path": path, "mode": 0o600}}}
}

func dynamicResources() object {
	return object{
		"lds_config": ads(),
		"cds_config": ads(),
		"ads_config": object{
			"api_type":                       "DELTA_GRPC",
			"transport_api_version":          "V3",
			"set_node_on_first_message_only": true,
			// Envoy waits a random time between 0 and a bound that doubles with each failure. With the default
			// bounds, 0.5 s and 30 s, a starting pod would wait long after an outage.
			"grpc_services": []object{envoyGRPC(controlPlaneCluster, 100*time.Millisecond, controlPlaneRetry)},
		},
	}
}

// envoyGRPC calls a cluster, and again after a failure.
func envoyGRPC(cluster string, base, most time.Duration) object {
	return object{"envoy_grpc": object{
		"cluster_name": cluster,
		"retry_policy": object{"retry_back_off": object{"base_interval": seconds(base), "max_interval": seconds(most)}},
	}}
}

// ads has no first-fetch timeout. Otherwise Envoy would stop waiting after 15 s and report ready without listeners, and
// captured connections would be refused.
func ads() object {
	return object{"ads": object{}, "resource_api_version": "V3", "initial_fetch_timeout": seconds(0)}
}

// controlPlane is an HTTP/2 cluster. Its keepalive notices a vanished peer.
func controlPlane(s Settings) (object, error) {
	host, port, err := s.controlPlane()
	if err != nil {
		return nil, err
	}
	c := object{
		"name":            controlPlaneCluster,
		"connect_timeout": seconds(time.Second),
		"typed_extension_protocol_options": http2(object{"connection_keepalive": object{
			"interval":        seconds(30 * time.Second),
			"timeout":         seconds(10 * time.Second),
			"interval_jitter": object{"value": 15},
		}}),
	}
	if s.IdentityAddress != "" {
		c["transport_socket"] = controlPlaneTLS(host)
		// Includes the handshake, with a control plane that all sidecars call at once.
		c["connect_timeout"] = seconds(3 * time.Second)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		c["type"] = "STATIC"
	} else {
		c["cluster_type"] = dnsCluster(s.Node.IPs)
		host = absolute(host)
	}
	c["load_assignment"] = loadAssignment(controlPlaneCluster, object{"socket_address": object{"address": host, "port_value": port}})
	return c, nil
}

// http2 makes a cluster speak HTTP/2.
func http2(options object) object {
	return object{httpOptionsKey: typed(httpOptionsKey, object{"explicit_http_config": object{"http2_protocol_options": options}})}
}

// dnsCluster resolves a name to addresses in the pod's IP families. The address is the ClusterIP of a Service and
// hardly ever changes, so the refresh is slow. It retries failures soon, for example at the start of a pod whose DNS
// does not work yet.
func dnsCluster(podIPs []netip.Addr) object {
	return object{
		"name": "envoy.cluster.dns",
		"typed_config": typed("envoy.extensions.clusters.dns.v3.DnsCluster", object{
			"dns_lookup_family":        lookupFamily(podIPs),
			"dns_refresh_rate":         seconds(30 * time.Second),
			"dns_jitter":               seconds(5 * time.Second),
			"dns_failure_refresh_rate": object{"base_interval": seconds(200 * time.Millisecond), "max_interval": seconds(controlPlaneRetry)},
		}),
	}
}

func lookupFamily(podIPs []netip.Addr) string {
	var v4, v6 bool
	for _, ip := range podIPs {
		v4, v6 = v4 || ip.Is4(), v6 || ip.Is6()
	}
	switch {
	case v4 && !v6:
		return "V4_ONLY"
	case v6 && !v4:
		return "V6_ONLY"
	}
	return "ALL"
}

// absolute appends a dot to a full cluster name. The name has fewer dots than the "ndots:5" of a pod's resolv.conf, so
// without the final dot the resolver would first try every search domain, at every refresh.
func absolute(host string) string {
	if strings.Contains(host, ".svc.") && !strings.HasSuffix(host, ".") {
		return host + "."
	}
	return host
}

func loadAssignment(cluster string, address object) object {
	return object{
		"cluster_name": cluster,
		"endpoints":    []object{{"lb_endpoints": []object{{"endpoint": object{"address": address}}}}},
	}
}

// layeredRuntime is what is so for every Envoy, beside what its kind has. It turns on the log of the proxy's own answers.
//
// On the size of a compiled regular expression: by default Envoy refuses a whole route configuration for one path pattern
// of some length. https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/type/matcher/v3/regex.proto
func layeredRuntime(s Settings) object {
	values := object{"re2.max_program_size.error_level": 32 << 10}
	maps.Copy(values, s.kind().runtime())
	if s.LogAnswers {
		values[answers.LogKey] = 100 // per cent
	}
	return object{"layers": []object{{"name": "mizzen", "static_layer": values}}}
}

// watchdogs make Envoy's threads report every two seconds, in place of ten times a second: by default this is most of
// an idle Envoy's work. Envoy only counts threads that report late (server.*.watchdog_miss).
// https://www.envoyproxy.io/docs/envoy/v1.40.0/operations/performance#watchdog
func watchdogs() object {
	w := object{"miss_timeout": seconds(4 * time.Second), "megamiss_timeout": seconds(10 * time.Second)}
	return object{"main_thread_watchdog": w, "worker_watchdog": w}
}

// maxConnections bounds those of all listeners together.
func maxConnections(most int) object {
	return object{
		"name": "envoy.resource_monitors.global_downstream_max_connections",
		"typed_config": typed("envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig", object{
			"max_active_downstream_connections": most,
		}),
	}
}

// typed is a message in the place of an Any.
func typed(message string, fields object) object {
	out := object{"@type": "type.googleapis.com/" + message}
	maps.Copy(out, fields)
	return out
}

// seconds is a duration in a message.
func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s" }
