package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/mizzen-mesh/mizzen/config"
)

// The caller's own address, whatever a request says of where it comes from, with the application's port: as it is
// written for IPv4, and for IPv6.
const (
	callerIPv4 = "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%:%DOWNSTREAM_LOCAL_PORT%"
	callerIPv6 = "[%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%]:%DOWNSTREAM_LOCAL_PORT%"
)

// inCallersName has the clusters of callers call the application in the name of who calls: they connect to the caller's
// address, and the capture rules turn that connection around (config.CallerPriority). It is for proxies that say that
// the rules are there (node.Node.CallerAddresses).
//
// Of the two forms Envoy takes the one that it can read. It can read neither for a link-local address, which is of a
// device: then the call goes to the pod's own address, as it was made, and comes from it.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/load_balancing/original_dst#original-destination-filter-state
func inCallersName() *listenerv3.Filter {
	const key = "envoy.network.transport_socket.original_dst_address"
	return networkFilter("envoy.filters.network.set_filter_state", &setstatev3.Config{
		OnNewConnection: []*filterstatev3.FilterStateValue{filterState(key, callerIPv4), filterState(key, callerIPv6)},
	})
}

// inCallersNames makes a cluster one for calls in callers' names. Statistics count it as the one that it stands in for.
func inCallersNames(c *clusterv3.Cluster, standsIn string) {
	addOptions(c, socketPriority(config.CallerPriority).SocketOptions)
	c.AltStatName = standsIn
}

// toApplication passes bytes on to the application, in the caller's name or not. The filters go before the proxy.
func toApplication(statPrefix string, callers bool) (p *tcpv3.TcpProxy, before []*listenerv3.Filter) {
	if callers {
		return tcpProxyTo(statPrefix, CallersCluster), []*listenerv3.Filter{inCallersName()}
	}
	return tcpProxyTo(statPrefix, InboundCluster), nil
}
