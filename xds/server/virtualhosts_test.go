package server_test

import (
	"fmt"
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// hostOf is a virtual host of a route configuration whose requests go to a cluster.
func hostOf(routes, domain, cluster string) envoy.Resource {
	return envoy.Resource{Type: envoy.VirtualHostType, Name: routes + "/" + domain, Message: &routev3.VirtualHost{
		Name: domain, Domains: []string{domain}, Routes: []*routev3.Route{{Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
		}}}},
	}}
}

// routesOf is a route configuration that gets its virtual hosts one by one.
func routesOf(name string) envoy.Resource {
	return envoy.Resource{Type: envoy.RouteType, Name: name, Lazy: true, Message: &routev3.RouteConfiguration{Name: name, Vhds: &routev3.Vhds{}}}
}

// routesVersion is routesOf with something that changes.
func routesVersion(name string, version int) envoy.Resource {
	r := routesOf(name)
	r.Message.(*routev3.RouteConfiguration).RequestHeadersToRemove = []string{fmt.Sprint(version)}
	return r
}

// gatewayWith is a gateway that has asked for everything that Envoy asks for before routes.
func gatewayWith(t *testing.T, resources ...envoy.Resource) (*control, *proxy) {
	t.Helper()
	c := startWith(t, server.Options{Classes: true})
	c.set(t, owned("shop/one", append(resources, routesOf("r"), routesOf("other"), listener("one"))...)...)
	p := c.connect(t, gatewayPod("one"))
	p.subscribe(envoy.ClusterType)
	p.take(envoy.ClusterType)
	p.subscribe(envoy.ListenerType)
	p.take(envoy.ListenerType, "one")
	return c, p
}

// routes subscribes to a route configuration, which comes.
func (p *proxy) routes(name string) {
	p.t.Helper()
	p.subscribe(envoy.RouteType, name)
	p.take(envoy.RouteType, name)
}

// A gateway gets the virtual hosts of the route configurations that it has: all of them, then each that is new, changed or gone.
func TestVirtualHosts(t *testing.T) {
	c, p := gatewayWith(t, hostOf("r", "a", "w"), hostOf("r", "b", "w"), hostOf("other", "a", "w"))
	c.set(t, lazy(cluster("w", ""), cluster("v", ""))...)
	p.routes("r")
	p.subscribe(envoy.VirtualHostType)
	p.take(envoy.ClusterType, "w") // before the hosts that name it
	p.take(envoy.VirtualHostType, "r/a", "r/b")

	c.set(t, owned("shop/one", hostOf("r", "b", "v"))...)
	p.take(envoy.ClusterType, "v")
	p.take(envoy.VirtualHostType, "r/b")
	c.set(t, owned("shop/one", hostOf("r", "c", "v"), hostOf("other", "b", "v"))...)
	p.take(envoy.VirtualHostType, "r/c")
	c.remove(t, hostOf("r", "a", ""), cluster("w", ""))
	p.take(envoy.VirtualHostType, "-r/a")
	p.take(envoy.ClusterType, "-w")

	// Envoy makes the route configuration anew: all of them once more, after it.
	p.routes("r")
	p.take(envoy.VirtualHostType, "r/b", "r/c")
	p.routes("other")
	p.take(envoy.VirtualHostType, "other/a", "other/b")
	p.unsubscribe(envoy.RouteType, "r")
	p.take(envoy.VirtualHostType, "-r/b", "-r/c") // so that Envoy does not list them for good
	c.set(t, owned("shop/one", hostOf("r", "b", "v"), hostOf("r", "d", "v"))...)
	p.quiet()
	p.routes("r")
	p.take(envoy.VirtualHostType, "r/b", "r/c", "r/d")
}

// When a route configuration goes, requests over old connections need it still. Envoy says when it has given it up.
func TestVirtualHostsOfGoneRoutes(t *testing.T) {
	c, p := gatewayWith(t, hostOf("r", "a", ""), hostOf("r", "b", ""))
	p.routes("r")
	p.subscribe(envoy.VirtualHostType)
	p.take(envoy.VirtualHostType, "r/a", "r/b")
	c.remove(t, routesOf("r"), hostOf("r", "a", ""), hostOf("r", "b", ""))
	p.take(envoy.RouteType, "-r") // which Envoy does not do
	p.quiet()
	c.set(t, owned("shop/one", routesOf("r"), hostOf("r", "a", ""))...) // this comes back as it was
	p.take(envoy.RouteType, "r")
	p.take(envoy.VirtualHostType, "-r/b")
	c.set(t, owned("shop/one", hostOf("r", "a", "w"))...)
	p.take(envoy.VirtualHostType, "r/a")
}

// A route configuration that Envoy makes anew while it is gone has nothing of before when it comes back.
func TestVirtualHostsOfRoutesMadeAnew(t *testing.T) {
	c, p := gatewayWith(t, hostOf("r", "a", ""), hostOf("r", "b", ""))
	p.routes("r")
	p.subscribe(envoy.VirtualHostType)
	p.take(envoy.VirtualHostType, "r/a", "r/b")
	c.remove(t, routesOf("r"), hostOf("r", "a", ""), hostOf("r", "b", ""))
	p.take(envoy.RouteType, "-r")
	p.subscribe(envoy.RouteType, "r")
	var got []string
	for range 2 { // in any order
		res := p.response("what is gone")
		p.ack(res)
		got = append(got, content(res)...)
	}
	slices.Sort(got)
	if want := []string{"-r", "-r/a", "-r/b"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	c.set(t, owned("shop/one", routesOf("r"), hostOf("r", "a", ""))...)
	p.take(envoy.RouteType, "r")
	p.take(envoy.VirtualHostType, "r/a")
}

// A gateway that comes back gets all virtual hosts of its route configurations, because it lists what it was sent, even for an earlier
// route configuration of the name. It is told what is gone, and to list no longer what it has given up.
func TestVirtualHostsResumed(t *testing.T) {
	c, _ := gatewayWith(t, hostOf("r", "a", ""), hostOf("r", "b", ""), hostOf("other", "a", ""))
	p := c.connect(t, gatewayPod("one"))
	p.resume(envoy.RouteType, map[string]string{"r": c.version(t, envoy.RouteType, "r")}, "r")
	held := map[string]string{"r/a": c.version(t, envoy.VirtualHostType, "r/a"), "r/b": "old", "r/gone": "old", "other/a": "old"}
	p.resume(envoy.VirtualHostType, held)
	p.take(envoy.VirtualHostType, "r/a", "r/b")
	p.take(envoy.VirtualHostType, "-other/a")
	p.take(envoy.VirtualHostType, "-r/gone")
	p.quiet()
}

// The virtual hosts of a gateway do not exist for sidecars and for other gateways, however they ask.
func TestVirtualHostsOfAnother(t *testing.T) {
	c, _ := gatewayWith(t, hostOf("r", "a", ""))
	for _, p := range []*proxy{c.connect(t, gatewayPod("two")), c.connect(t, pod("one", "n"))} {
		for range 2 {
			p.subscribe(envoy.RouteType, "r")
			p.take(envoy.RouteType, "-r")
			p.subscribe(envoy.VirtualHostType)
			p.quiet()
		}
		p.subscribe(envoy.VirtualHostType, "r/a")
		p.take(envoy.VirtualHostType, "-r/a")
		c.set(t, owned("shop/one", hostOf("r", "b", ""))...)
		c.set(t, owned("shop/one", hostOf("r", "a", "w"))...)
		c.remove(t, hostOf("r", "b", ""))
		p.quiet()
	}
}
