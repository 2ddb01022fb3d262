package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/mizzen-mesh/mizzen/config"
)

// The address of the caller's connection, not one that a request claims, with the application's port: in the form for IPv4,
// and in the form for IPv6.
const (
	callerIPv4 = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%:%DOWNSTREAM_LOCAL_PORT%"
	callerIPv6 = "[%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%]:%DOWNSTREAM_LOCAL_PORT%"
)

// inCallersName makes the application see the caller's address: the callers' clusters connect to the caller's address,
// and the capture rules turn that connection around (config.CallerPriority). It is for proxies that report these rules
// (node.Node.CallerAddresses).
//
// Envoy takes the form of the address that it can read. For a link-local address, which needs a device, it can read
// neither. Then the call goes to the pod's own address, and also comes from it.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/load_balancing/original_dst#original-destination-filter-state
func inCallersName() *listenerv3.Filter {
	const key = "envoy.network.transport_socket.original_dst_address"
	return networkFilter("envoy.filters.network.set_filter_state", &setstatev3.Config{
		OnNewConnection: []*filterstatev3.FilterStateValue{filterState(key, callerIPv4), filterState(key, callerIPv6)},
	})
}

// inCallersNames turns a cluster into a callers' cluster. Statistics count it as the cluster that it replaces.
func inCallersNames(c *clusterv3.Cluster, standsIn string) {
	addOptions(c, socketPriority(config.CallerPriority).SocketOptions)
	c.AltStatName = standsIn
}

// toApplication passes bytes on to the application, which sees the caller's address if callers is true. The filters go
// before the proxy.
func toApplication(statPrefix string, callers bool) (p *tcpv3.TcpProxy, before []*listenerv3.Filter) {
	if callers {
		return tcpProxyTo(statPrefix, CallersCluster), []*listenerv3.Filter{inCallersName()}
	}
	return tcpProxyTo(statPrefix, InboundCluster), nil
}
