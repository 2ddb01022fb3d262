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
	"github.com/mizzen-mesh/mizzen/internal/listentest"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// A sidecar with nothing to do takes next to no CPU, agent and Envoy together. The kubelet's probe asks it, and one that waits
// is asked by the init container, too. Bounds of a waiting one are two to four times what is seen on busy machines, one of them
// half as fast as the other, and within what it may take (1.5 %).
func TestSidecarRests(t *testing.T) {
	if raceDetector {
		t.Skip("the sidecar is this test's own program, and its CPU is not the product's under the race detector")
	}
	const period = 2 * time.Second // of the probe, as the webhook sets it
	authority := authoritytest.Start(t, time.Hour)
	served := controlPlane(t, authority)
	for _, tt := range []struct {
		name                   string
		identity, controlPlane string
		ready                  bool
		// probes are those over which it is counted: one that waits answers when the probe's time is nearly over.
		probes int
		// most is the share of a core, and runs how often threads get a CPU, in a second.
		most, runs float64
	}{
		{"waits for its certificate", listentest.FreeAddress(t), listentest.FreeAddress(t), false, 4, 0.005, 50},
		{"waits for its configuration", authority.Addr, listentest.FreeAddress(t), false, 4, 0.010, 90},
		{"ready", authority.Addr, served, true, 10, 0.003, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startSidecar(t, []string{contract.TrustBundleEnv + "=" + authoritytest.Bundle(authority.State().Roots...)},
				"--control-plane="+tt.controlPlane, "--identity-address="+tt.identity, "--token-file="+tokenFile(t))
			waited := make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			go func() { waited <- waitReady(ctx, s.url("/startupz"), io.Discard) }()
			if tt.ready {
				if err := <-waited; err != nil {
					t.Fatal(err)
				}
			}
			tick := time.NewTicker(period)
			defer tick.Stop()
			probe := func(times int) {
				for range times {
					<-tick.C
					if err := probeHealth(t.Context(), s.addr); (err == nil) != tt.ready {
						t.Fatalf("probe: %v; ready is to be %v", err, tt.ready)
					}
				}
			}
			probe(3) // by then pauses are as long as they get
			envoy := s.envoy()
			agentBefore, envoyBefore, start := usageOf(t, s.pid), usageOf(t, envoy), time.Now()
			probe(tt.probes)
			byAgent, byEnvoy, took := usageOf(t, s.pid).minus(agentBefore), usageOf(t, envoy).minus(envoyBefore), time.Since(start)
			both := byAgent.plus(byEnvoy)
			share, runs := float64(both.cpu)/float64(took), float64(both.runs)/took.Seconds()
			t.Logf("%.3f %% of a core, %.0f runs a second (agent %v and %d, Envoy %v and %d in %v)", 100*share, runs, byAgent.cpu, byAgent.runs, byEnvoy.cpu, byEnvoy.runs, took)
			if share > tt.most || runs > tt.runs {
				t.Errorf("want at most %.3f %% and %.0f", 100*tt.most, tt.runs)
			}
		})
	}
}

// probeHealth is a probe as the kubelet makes it, over a connection of its own.
func probeHealth(ctx context.Context, addr string) error {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
	defer cancel()
	_, err = healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	return err
}

// emptyConfiguration has nothing for anybody, which is enough to be ready.
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
