package xds_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A connection to a pod's own address has mTLS with who answers there, plain text with who has no identity,
// and is none with who is not known or another than expected.
func TestCallsByPodAddress(t *testing.T) {
	a := newCA(t)
	for name, c := range map[string]struct {
		expects       string
		served, plain bool
	}{
		"meshed":              {expects: idCart, served: true},
		"another":             {expects: idOther},
		"nobody knows":        {expects: ""},
		"without an identity": {expects: mesh.PlainText, served: true, plain: true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := startCalled(t, a, idCart, all(config.Permissive), serveBytes(t, echo))
			cluster := &clusterv3.Cluster{}
			address := startListener(t, func(port uint32) *listenerv3.Listener {
				// The listener's own address stands for the pod's: nobody has redirected the connection.
				to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
				proto.Merge(cluster, envoy.PodCluster(to, c.expects, secureConfig()).Message)
				for _, e := range cluster.GetLoadAssignment().GetEndpoints() {
					e.LbEndpoints[0].GetEndpoint().Address = socketAt("127.0.0.1", uint32(pod.wire.Port()))
				}
				return podListener(t, port)
			}, cluster, startSecrets(t, a, idClient).cluster(), &clusterv3.Cluster{Name: envoy.PassthroughCluster})
			if err := echoes(address); (err == nil) != c.served {
				t.Errorf("served %v, want %v: %v", err == nil, c.served, err)
			}
			client, server := pod.tap.heard()
			if plain := strings.Contains(client+server, marker); plain != c.plain {
				t.Errorf("plain text %v, want %v: %.100q", plain, c.plain, client)
			}
			if c.served && !c.plain {
				pod.tap.isTLS13(t, marker)
			}
		})
	}
}

// podListener is the outbound listener for destinations in a range of pods, without a control plane to ask.
func podListener(t *testing.T, port uint32) *listenerv3.Listener {
	t.Helper()
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	l := proto.Clone(envoy.SecureOutboundListeners(envoy.NewProtocolTable(), nil, everywhere, secureConfig())[0].Message).(*listenerv3.Listener)
	l.Address, l.ListenerFilters = socketAt("127.0.0.1", port), nil
	matchers := l.FilterChainMatcher.GetMatcherList()
	matchers.Matchers = matchers.Matchers[1:] // loopback is refused
	l.FilterChains = slices.DeleteFunc(l.FilterChains, func(c *listenerv3.FilterChain) bool { return c.Name == "http" || c.Name == "opaque" })
	for _, c := range l.FilterChains {
		last := c.Filters[len(c.Filters)-1]
		var p tcpv3.TcpProxy
		if last.GetTypedConfig().UnmarshalTo(&p) == nil {
			p.OnDemand = nil
			last.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, &p)}
		}
	}
	return l
}
