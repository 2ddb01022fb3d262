package agent

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

// routedByHeader is quickToDrain with another name, which routes a request to the cluster that its header x-cluster names.
func routedByHeader(name string, at netip.AddrPort) *listenerv3.Listener {
	l := quickToDrain(at)
	l.Name, l.StatPrefix = name, name
	filter := l.GetFilterChains()[0].GetFilters()[0]
	m := &hcmv3.HttpConnectionManager{}
	if err := filter.GetTypedConfig().UnmarshalTo(m); err != nil {
		panic(err)
	}
	m.StatPrefix = name
	m.GetRouteConfig().GetVirtualHosts()[0].GetRoutes()[0].GetRoute().ClusterSpecifier = &routev3.RouteAction_ClusterHeader{ClusterHeader: "x-cluster"}
	filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: toAny(m)}
	return l
}

// A gateway with two HTTP listeners, one for connections, 50 clusters that are all in use and 1,000 that are not has at most 600
// series, of which Prometheus stores each. Those for alerts are among them.
func TestGatewaySeries(t *testing.T) {
	const most, services, unused = 600, 50, 1000
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, _ := strconv.Atoi(r.URL.Query().Get("status"))
		w.WriteHeader(status)
	}))
	t.Cleanup(upstream.Close)
	cp := startControlPlane(t, listentest.FreeAddress(t))
	var clusters []proto.Message
	for i := range services + unused {
		c := proto.Clone(staticCluster(netip.MustParseAddrPort(upstream.Listener.Addr().String()))).(*clusterv3.Cluster)
		c.Name = fmt.Sprintf("outbound/shop/s%d/8080", i)
		clusters = append(clusters, c)
	}
	first, second, third := listentest.FreeAddress(t), listentest.FreeAddress(t), listentest.FreeAddress(t)
	connections := tcpListener(netip.MustParseAddrPort(third))
	connections.GetFilterChains()[0].GetFilters()[0].ConfigType = tcpProxyTo("outbound/shop/s0/8080")
	cp.send(clusterType, clusters...)
	cp.send(listenerType, routedByHeader("gateway-80", netip.MustParseAddrPort(first)), routedByHeader("gateway-8080", netip.MustParseAddrPort(second)), connections)
	r := start(t, cp.addr, func(s *Settings) {
		asGateway(0, time.Second)(s)
		s.MemoryLimit = 1 << 30
	})
	r.awaitReady(200, "ready")
	for i := range services {
		for _, address := range []string{first, second} {
			for _, status := range []int{200, 304, 404, 503} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://%s/?status=%d", address, status), nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("x-cluster", fmt.Sprintf("outbound/shop/s%d/8080", i))
				res, err := http.DefaultTransport.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				res.Body.Close()
			}
		}
	}
	if err := ask(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+third+"/?status=200"); err != nil {
		t.Fatal(err)
	}
	_, text := r.get("/metrics")
	series := map[string]int{}
	total := 0
	for line := range strings.Lines(text) {
		if name, _, ok := strings.Cut(line, " "); ok && name != "#" {
			name, _, _ = strings.Cut(name, "{")
			series[name]++
			total++
		}
	}
	t.Logf("%d series", total)
	if total > most {
		t.Errorf("%d series, want at most %d: %v", total, most, series)
	}
	for _, name := range []string{
		"envoy_cluster_upstream_rq_xx", "envoy_cluster_upstream_cx_connect_fail",
		"envoy_http_downstream_rq_xx", "envoy_http_downstream_rq_time_bucket", "envoy_http_downstream_rq_active",
		"envoy_listener_downstream_cx_active", "envoy_listener_downstream_cx_overflow", "envoy_tcp_downstream_cx_total",
		"envoy_overload_envoy_resource_monitors_fixed_heap_pressure", "envoy_control_plane_connected_state",
	} {
		if series[name] == 0 {
			t.Errorf("no %s", name)
		}
	}
}
