package server

import (
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// gatewayStream is the stream of a gateway with the route configuration "r", which exists and has these virtual hosts.
func gatewayStream(t *testing.T, hosts ...string) (*Store, *stream) {
	t.Helper()
	store := NewStore()
	st := newStream(
		node.Node{Namespace: "shop", ServiceAccount: "one", Gateway: true}, New(Options{Store: store}), func(*response) error { return nil },
	)
	setHosts(t, store, hosts...)
	ask(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.RouteType, ResourceNamesSubscribe: []string{"r"}})
	ask(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.VirtualHostType})
	acknowledge(t, st)
	return store, st
}

func setHosts(t *testing.T, store *Store, hosts ...string) {
	t.Helper()
	change := envoy.Change{Set: []envoy.Resource{{Type: envoy.RouteType, Name: "r", Lazy: true, Message: &routev3.RouteConfiguration{Name: "r"}}}}
	for _, host := range hosts {
		change.Set = append(change.Set, envoy.Resource{Type: envoy.VirtualHostType, Name: host, Message: &routev3.VirtualHost{Name: host}})
	}
	for i := range change.Set {
		change.Set[i].Owner = "shop/one"
	}
	if _, err := store.Apply(change); err != nil {
		t.Fatal(err)
	}
}

// ask has the stream take a request.
func ask(t *testing.T, st *stream, req *discoveryv3.DeltaDiscoveryRequest) {
	t.Helper()
	if err := st.request(req); err != nil {
		t.Fatal(err)
	}
	if err := st.advance(); err != nil {
		t.Fatal(err)
	}
}

// acknowledge acknowledges everything.
func acknowledge(t *testing.T, st *stream) {
	t.Helper()
	for range 3 {
		for _, typeURL := range []string{envoy.RouteType, envoy.VirtualHostType} {
			ask(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: st.subs.of(typeURL).nonce})
		}
	}
}

// A virtual host that changes, or is new, while its route configuration is given up is not waited for.
func TestVirtualHostChangesAsItIsGivenUp(t *testing.T) {
	store, st := gatewayStream(t, "r/a")
	setHosts(t, store, "r/a", "r/new")
	ask(t, st, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.RouteType, ResourceNamesUnsubscribe: []string{"r"}})
	acknowledge(t, st)
	hosts := st.subs.of(envoy.VirtualHostType)
	equal(t, "needed", sortedKeys(hosts.needed))
	equal(t, "dirty", sortedKeys(hosts.dirty))
	equal(t, "sent", sortedKeys(hosts.sent))
	if n := store.WatchedOf(envoy.VirtualHostType); n > 0 {
		t.Errorf("%d names are watched", n)
	}
}

// A virtual host that goes before it is sent is forgotten.
func TestVirtualHostGoesBeforeItIsSent(t *testing.T) {
	store, st := gatewayStream(t, "r/a")
	setHosts(t, store, "r/a", "r/new")
	st.takePending()
	if _, err := store.Apply(envoy.Change{Remove: []envoy.ID{{Type: envoy.VirtualHostType, Name: "r/new"}}}); err != nil {
		t.Fatal(err)
	}
	acknowledge(t, st)
	equal(t, "needed", sortedKeys(st.subs.of(envoy.VirtualHostType).needed), "r/a")
	setHosts(t, store, "r/new")
	acknowledge(t, st)
	equal(t, "needed again", sortedKeys(st.subs.of(envoy.VirtualHostType).needed), "r/a", "r/new")
}
