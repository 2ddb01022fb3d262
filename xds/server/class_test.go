package server_test

import (
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// classed returns the inbound listener of a class. The prefix of its statistics is the class.
func classed(class string) envoy.Resource {
	return envoy.Resource{Type: envoy.ListenerType, Name: "inbound", Class: class, Message: &listenerv3.Listener{Name: "inbound", StatPrefix: class}}
}

func classes(of ...string) map[node.Pod]string {
	out := map[node.Pod]string{}
	for i := 0; i < len(of); i += 2 {
		out[node.Pod{Namespace: "shop", Name: of[i]}] = of[i+1]
	}
	return out
}

// class returns the class of the inbound listener in a response.
func (p *proxy) class(res *discoveryv3.DeltaDiscoveryResponse) string {
	p.t.Helper()
	for _, r := range res.Resources {
		if r.Name == "inbound" {
			var l listenerv3.Listener
			if err := r.Resource.UnmarshalTo(&l); err != nil {
				p.t.Fatal(err)
			}
			return l.StatPrefix
		}
	}
	p.t.Fatalf("no inbound listener in %q", content(res))
	return ""
}

// Each proxy gets the inbound listener of its pod's class, whatever the proxy claims, and only the changes of that class.
func TestClasses(t *testing.T) {
	c := startWith(t, server.Options{Classes: true})
	c.apply(t, envoy.Change{Set: []envoy.Resource{listener("out"), classed("open"), classed("shut")}, Classes: classes("a", "open", "b", "shut")})
	a, b := c.connect(t, pod("a", "n")), c.connect(t, pod("b", "n"))
	for p, want := range map[*proxy]string{a: "open", b: "shut"} {
		p.subscribe(envoy.ListenerType)
		if got := p.class(p.take(envoy.ListenerType, "inbound", "out")); got != want {
			t.Errorf("class %q, want %q", got, want)
		}
	}
	c.apply(t, envoy.Change{Set: []envoy.Resource{classed("odd")}, Remove: []envoy.ID{classed("open").ID()}, Classes: classes("a", "odd")})
	if got := a.class(a.take(envoy.ListenerType, "inbound")); got != "odd" {
		t.Errorf("class %q after the change, want odd", got)
	}
	// Another pod's class, a class without pods, and no change: the next change that both get is the last.
	c.apply(t, envoy.Change{Set: []envoy.Resource{classed("new"), classed("odd")}, Classes: classes("a", "odd", "c", "new")})
	c.set(t, listener("last"))
	a.take(envoy.ListenerType, "last")
	b.take(envoy.ListenerType, "last")
}

// A proxy whose pod is not known yet waits for all listeners. Without the inbound one it would take its configuration for
// complete, and refuse connections. A proxy whose pod is gone keeps what it has.
func TestClassComesAndGoes(t *testing.T) {
	c := startWith(t, server.Options{Classes: true})
	c.set(t, listener("out"), classed("open"), cluster("base", ""))
	p := c.connect(t, pod("a", "n"))
	p.subscribe(envoy.ListenerType)
	p.subscribe(envoy.ClusterType)
	p.take(envoy.ClusterType, "base") // all else goes on
	c.set(t, listener("out2"))
	c.apply(t, envoy.Change{Classes: classes("a", "open")})
	res := p.take(envoy.ListenerType, "inbound", "out", "out2")

	c.apply(t, envoy.Change{Remove: []envoy.ID{classed("open").ID(), listener("out2").ID()}, Classes: classes("a", "")})
	p.take(envoy.ListenerType, "-out2")
	c.set(t, listener("out3"))
	p.take(envoy.ListenerType, "out3")

	// It comes back, to a replica that does not know its pod.
	held := map[string]string{}
	for _, r := range res.Resources {
		held[r.Name] = r.Version
	}
	delete(held, "out2")
	back := c.connect(t, pod("a", "n"))
	back.resume(envoy.ListenerType, held, "*")
	back.take(envoy.ListenerType, "out3")
	c.apply(t, envoy.Change{Set: []envoy.Resource{classed("shut")}, Classes: classes("a", "shut")})
	if got := back.class(back.take(envoy.ListenerType, "inbound")); got != "shut" {
		t.Errorf("class %q, want shut", got)
	}
}

// A proxy that comes back with the listener of its class is not sent it again.
func TestClassIsHeld(t *testing.T) {
	c := startWith(t, server.Options{Classes: true})
	c.apply(t, envoy.Change{Set: []envoy.Resource{classed("open")}, Classes: classes("a", "open")})
	p := c.connect(t, pod("a", "n"))
	p.resume(envoy.ListenerType, map[string]string{"inbound": c.version(t, envoy.ListenerType, "inbound/open")}, "*")
	c.set(t, listener("next"))
	p.take(envoy.ListenerType, "next")
}
