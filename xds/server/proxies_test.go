package server_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// Options.Proxies is called for each proxy that comes and goes, but not for the agent's own stream.
func TestProxiesAreTold(t *testing.T) {
	told := make(chan string, 10)
	c := startWith(t, server.Options{Proxies: func(n node.Node, connected bool) {
		told <- fmt.Sprintf("%s %t %t", n.ID(), n.SocketLoadBalancing, connected)
	}})
	address := envoy.PodAddress(netip.MustParseAddrPort("10.1.0.1:80"), "plain")
	c.set(t, listener("outbound"), address)
	agent := c.connect(t, pod("cart-0", ""))
	agent.subscribe(envoy.PodAddressType, address.Name)
	agent.take(envoy.PodAddressType, address.Name)

	n, err := node.FromProto(pod("cart-0", ""))
	if err != nil {
		t.Fatal(err)
	}
	n.SocketLoadBalancing = true
	proxy := c.connect(t, n.Proto())
	proxy.subscribe(envoy.ListenerType, "*")
	proxy.take(envoy.ListenerType, "outbound")
	if err := c.stop(); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{n.ID() + " true true", n.ID() + " true false"} {
		if got := <-told; got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	if len(told) > 0 {
		t.Errorf("told %q, too", <-told)
	}
}
