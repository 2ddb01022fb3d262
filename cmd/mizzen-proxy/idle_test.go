package main

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// A sidecar with nothing to do takes next to no CPU, agent and Envoy together. Each is asked as the kubelet asks it, and
// one that waits by the init container, too.
func TestSidecarRests(t *testing.T) {
	const window, period = 20 * time.Second, 2 * time.Second
	authority := authoritytest.Start(t, time.Hour)
	for _, tt := range []struct {
		name                   string
		identity, controlPlane string
		ready                  bool
		most                   time.Duration
		wakeUps                int
	}{
		{"waits for its certificate", freeAddress(t), freeAddress(t), false, 20 * time.Millisecond, 400},
		{"waits for its configuration", authority.Addr, freeAddress(t), false, 20 * time.Millisecond, 400},
		{"ready", authority.Addr, controlPlane(t, authority), true, 20 * time.Millisecond, 400},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startSidecar(t, []string{contract.TrustBundleEnv + "=" + authoritytest.Bundle(authority.State().Roots...)}, "--control-plane="+tt.controlPlane, "--identity-address="+tt.identity, "--token-file="+tokenFile(t))
			if tt.ready {
				if err := waitReady(t.Context(), s.url("/startupz"), t.Output()); err != nil {
					t.Fatal(err)
				}
			} else {
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				go func() { _ = waitReady(ctx, s.url("/startupz"), io.Discard) }()
			}
			tick := time.NewTicker(period)
			defer tick.Stop()
			probe := func() {
				<-tick.C
				if err := probeHealth(t.Context(), s.addr); (err == nil) != tt.ready {
					t.Fatalf("probe: %v; ready is to be %v", err, tt.ready)
				}
			}
			for range 3 { // until pauses are as long as they get
				probe()
			}
			agent, envoy, start := usageOf(t, s.pid), usageOf(t, s.envoy()), time.Now()
			for time.Since(start) < window {
				probe()
			}
			agent, envoy = usageOf(t, s.pid).minus(agent), usageOf(t, s.envoy()).minus(envoy)
			used, took := agent.plus(envoy), time.Since(start)
			t.Logf("%.4f %% of a core: agent %v, Envoy %v in %v", 100*float64(used.cpu)/float64(took), agent, envoy, took)
		})
	}
}

func probeHealth(ctx context.Context, addr string) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	return err
}

type emptyConfiguration struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
}

func (emptyConfiguration) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for answered := map[string]bool{}; ; {
		req, err := stream.Recv()
		if err != nil {
			return err
		}
		if url := req.GetTypeUrl(); !answered[url] {
			answered[url] = true
			if err := stream.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: url, Nonce: "1"}); err != nil {
				return err
			}
		}
	}
}

func controlPlane(t *testing.T, authority *authoritytest.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(authority.TLS(tls.RequireAndVerifyClientCert, "h2"))))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, emptyConfiguration{})
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

func tokenFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(authoritytest.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
