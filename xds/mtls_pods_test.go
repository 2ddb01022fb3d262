package xds_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/go-logr/logr"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/config"
	agentaddresses "github.com/mizzen-mesh/mizzen/internal/agent/addresses"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
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
			cfg := secureConfig()
			cfg.OnDemand.Timeout.Duration = time.Second
			pod := startCalled(t, a, idCart, all(config.Permissive), serveBytes(t, echo))
			var clusters []*clusterv3.Cluster
			for _, r := range envoy.BaseClusters(cfg) {
				if r.Name != envoy.PodsCluster && r.Name != envoy.PassthroughCluster {
					continue
				}
				// Nobody has redirected the connection: the address that it was made to is the listener's own.
				c := r.Message.(*clusterv3.Cluster)
				to := staticCluster(r.Name, pod.wire)
				c.ClusterDiscoveryType, c.LoadAssignment, c.LbPolicy = to.ClusterDiscoveryType, to.LoadAssignment, to.LbPolicy
				clusters = append(clusters, c)
			}
			who := startAddresses(t, c.expects)
			address := startListener(t, func(port uint32) *listenerv3.Listener { return podListener(t, port, cfg) },
				append(clusters, startSecrets(t, a, idClient, who.Register).cluster())...)
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

// startAddresses is an agent to which the control plane says who is at each address; nothing, for the empty string.
func startAddresses(t *testing.T, identity string) *agentaddresses.Addresses {
	t.Helper()
	store := server.NewStore()
	made := store.OnDemand(func(id envoy.ID) bool { return id.Type == envoy.PodAddressType })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.New(server.Options{Store: store, Log: logr.Discard()}).Serve(t.Context(), l) }() // ends with the test
	go func() {
		for {
			select {
			case <-made.Changed():
			case <-t.Context().Done():
				return
			}
			wanted, _ := made.Take()
			for _, id := range wanted {
				if addr, ok := sds.Address(id.Name); ok && identity != "" {
					_, _ = store.Apply(envoy.Change{Set: []envoy.Resource{envoy.PodAddress(addr, identity)}})
				}
			}
		}
	}()
	who := agentaddresses.New(agentaddresses.Options{
		Node: node.Node{Namespace: "shop", Pod: "client", ServiceAccount: "client"}.Proto(), Log: slog.New(slog.DiscardHandler),
		Dial: func(context.Context) (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) },
	})
	go who.Run(t.Context())
	return who
}

// podListener is the outbound listener for destinations in a range of pods.
func podListener(t *testing.T, port uint32, cfg *config.Mesh) *listenerv3.Listener {
	t.Helper()
	everywhere := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	l := proto.Clone(envoy.OutboundListeners(envoy.NewProtocolTable(), nil, everywhere, cfg)[0].Message).(*listenerv3.Listener)
	l.Address, l.ListenerFilters = socketAt("127.0.0.1", port), nil
	matchers := l.FilterChainMatcher.GetMatcherList()
	matchers.Matchers = matchers.Matchers[1:] // loopback is refused
	l.FilterChains = slices.DeleteFunc(l.FilterChains, func(c *listenerv3.FilterChain) bool { return c.Name == "http" || c.Name == "opaque" })
	return l
}
