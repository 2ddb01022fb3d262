package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accessdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity"
	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/envoytest"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// The agent of a sidecar with an identity is small: the released program beside the real Envoy, at rest and after a load of
// scrapes, probes and callers. Of its memory what is its own counts. The pages of its program are the node's: all of its
// sidecars share them, and the kernel takes them back when it needs them.
func TestAgentIsSmall(t *testing.T) {
	const atRest, loaded = 8.0, 10.0 // MB
	envoytest.Path(t)                // before the build
	program := filepath.Join(t.TempDir(), "mizzen-proxy")
	build := exec.Command("go", "build", "-trimpath", "-tags=grpcnotrace", "-ldflags=-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	authority := authoritytest.Start(t, time.Hour)
	s := startProgram(t, program, []string{contract.TrustBundleEnv + "=" + authoritytest.Bundle(authority.State().Roots...)},
		"--control-plane="+controlPlane(t, authority), "--identity-address="+authority.Addr, "--token-file="+tokenFile(t))
	if err := waitReady(t.Context(), s.url("/startupz"), io.Discard); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := probeHealth(t.Context(), s.addr); err != nil {
			t.Fatal(err)
		}
	}
	check := func(when string, most float64) {
		t.Helper()
		own, all := resident(t, s.pid)
		t.Logf("%s: %.1f MB of its own, %.1f MB with the pages of its program", when, own, all)
		if own > most {
			t.Errorf("%s: %.1f MB, want at most %.0f", when, own, most)
		}
	}
	check("at rest", atRest)

	callers(t, s, 20_000)
	for range 50 {
		if err := probeHealth(t.Context(), s.addr); err != nil {
			t.Fatal(err)
		}
		if text := scrape(t, s); !strings.Contains(text, "\ngo_sched_gomaxprocs_threads 1\n") {
			t.Fatal("on a node with many CPUs the agent would hold memory for each of them")
		}
	}
	check("after load", loaded)
}

// callers tells the agent, as Envoy does, of so many connections in plain text from some hundred addresses. It returns when
// the agent knows of all.
func callers(t *testing.T, s *running, connections int) {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+identity.SocketPath(s.dir), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := accesslogv3.NewAccessLogServiceClient(conn).StreamAccessLogs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	socket := func(ip string, port int) *corev3.Address {
		return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
		}}}
	}
	log := &accesslogv3.StreamAccessLogsMessage_Identifier{LogName: sds.PlainTextLog, Node: &corev3.Node{Id: "shop/cart-1"}}
	for i := range connections {
		entry := func(kind accessdatav3.AccessLogType) *accessdatav3.TCPAccessLogEntry {
			return &accessdatav3.TCPAccessLogEntry{CommonProperties: &accessdatav3.AccessLogCommon{
				AccessLogType:                 kind,
				DownstreamDirectRemoteAddress: socket(fmt.Sprintf("10.1.0.%d", i%200), 1024+i%60_000),
				DownstreamLocalAddress:        socket("10.2.0.1", 8080),
			}}
		}
		err := stream.Send(&accesslogv3.StreamAccessLogsMessage{
			Identifier: log,
			LogEntries: &accesslogv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: &accesslogv3.StreamAccessLogsMessage_TCPAccessLogEntries{
				LogEntry: []*accessdatav3.TCPAccessLogEntry{
					entry(accessdatav3.AccessLogType_TcpUpstreamConnected), entry(accessdatav3.AccessLogType_TcpConnectionEnd),
				},
			}},
		})
		if err != nil {
			t.Fatal(err)
		}
		log = nil // only the first message has it
	}
	counted := fmt.Sprintf(`mizzen_agent_plaintext_calls_total{kind="connection",port="8080"} %d`+"\n", connections)
	for deadline := time.Now().Add(time.Minute); !strings.Contains(scrape(t, s), counted); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the agent does not know of %d connections", connections)
		}
	}
}

func scrape(t *testing.T, s *running) string {
	t.Helper()
	res, err := http.Get(s.url("/metrics"))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

var residentLine = regexp.MustCompile(`(?m)^(RssAnon|VmRSS):\s+(\d+) kB$`)

// resident returns the memory of a process in MB: what is its own, and with the pages of files.
// https://man7.org/linux/man-pages/man5/proc_pid_status.5.html
func resident(t *testing.T, pid int) (own, all float64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, line := range residentLine.FindAllSubmatch(b, -1) {
		kB, err := strconv.Atoi(string(line[2]))
		if err != nil {
			t.Fatal(err)
		}
		found[string(line[1])] = float64(kB) / (1 << 10)
	}
	if found["RssAnon"] == 0 || found["VmRSS"] == 0 {
		t.Fatalf("no memory of process %d:\n%s", pid, b)
	}
	return found["RssAnon"], found["VmRSS"]
}
