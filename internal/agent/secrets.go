package agent

import (
	"math"
	"net/netip"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// secretsCluster is the cluster of the agent, which serves certificate, key and roots.
func secretsCluster(dir string) object {
	return object{
		"name": sds.Cluster,
		// A name with a dot, which statsConfig leaves out: nobody needs 40 series of this in every pod.
		"alt_stat_name":                    "sds.agent",
		"type":                             "STATIC",
		"connect_timeout":                  seconds(time.Second),
		"typed_extension_protocol_options": http2(object{}),
		// Connections that wait until it is known who is at a pod's address: a question each.
		"circuit_breakers": object{"thresholds": []object{{"max_requests": math.MaxUint32, "max_pending_requests": math.MaxUint32}}},
		"load_assignment":  loadAssignment(sds.Cluster, object{"pipe": object{"path": identity.SocketPath(dir)}}),
	}
}

// controlPlaneTLS sends the workload's certificate, and requires a certificate of the mesh for the control plane's
// name. No workload has a certificate with a DNS name or an address.
func controlPlaneTLS(host string) object {
	kind, sni := "DNS", host
	if _, err := netip.ParseAddr(host); err == nil {
		kind, sni = "IP_ADDRESS", "" // RFC 6066: an address is no server name
	}
	return object{
		"name": "envoy.transport_sockets.tls",
		"typed_config": typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", object{
			"sni": sni,
			// No session resumption: nobody sends the current certificate in a resumed session.
			"max_session_keys": 0,
			"common_tls_context": object{
				"tls_params":                         object{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
				"alpn_protocols":                     []string{"h2"},
				"tls_certificate_sds_secret_configs": []object{secretConfig(sds.Workload)},
				"combined_validation_context": object{
					"default_validation_context": object{
						"match_typed_subject_alt_names": []object{{"san_type": kind, "matcher": object{"exact": host}}},
					},
					"validation_context_sds_secret_config": secretConfig(sds.Bundle),
				},
			},
		}),
	}
}

// secretConfig is sds.Config, whose comments say why. With any difference Envoy would subscribe twice.
func secretConfig(name string) object {
	return object{"name": name, "sds_config": object{
		"api_config_source": object{
			"api_type":                       "GRPC",
			"transport_api_version":          "V3",
			"set_node_on_first_message_only": true,
			"grpc_services":                  []object{envoyGRPC(sds.Cluster, 5*time.Millisecond, time.Second)},
		},
		"resource_api_version":  "V3",
		"initial_fetch_timeout": seconds(0),
	}}
}
