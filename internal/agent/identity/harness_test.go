package identity

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// running is an identity that runs until the test ends, and what it says.
type running struct {
	*Identity
	t        *testing.T
	registry *prometheus.Registry
	log      *buffer
	opts     Options
	stop     func()
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func options(t *testing.T, address string, roots ...*ca.Authority) Options {
	t.Helper()
	dir := t.TempDir()
	o := Options{
		Address: address, Namespace: "shop", ServiceAccount: "cart", Bundle: authoritytest.Bundle(roots...),
		TokenFile: filepath.Join(dir, "token"), Dir: dir, Keep: Keep{File: filepath.Join(dir, "roots"), Key: "a key"},
	}
	write(t, o.TokenFile, authoritytest.Token)
	return o
}

func run(t *testing.T, o Options) *running {
	t.Helper()
	r := &running{t: t, registry: prometheus.NewRegistry(), log: &buffer{}, opts: o}
	o.Registerer, o.Log = r.registry, slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.Identity, err = New(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

// envoy acknowledges everything, or nothing.
func (r *running) envoy(acknowledge bool) {
	r.t.Helper()
	conn, err := grpc.NewClient("unix:"+SocketPath(r.opts.Dir), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(ctx)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		cancel()
		conn.Close()
	})
	names := []string{sds.Bundle}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: sds.TypeURL, ResourceNames: names}); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		for {
			res, err := stream.Recv()
			if err != nil {
				return
			}
			if acknowledge {
				_ = stream.Send(&discoveryv3.DiscoveryRequest{ // fails only at the end
					TypeUrl: sds.TypeURL, ResourceNames: names, VersionInfo: res.GetVersionInfo(), ResponseNonce: res.GetNonce(),
				})
			}
		}
	}()
}

func (r *running) awaitCertificate() {
	r.t.Helper()
	select {
	case <-r.Obtained():
	case <-time.After(20 * time.Second):
		r.t.Fatalf("no certificate: %s\n%s", r.Missing(), r.log)
	}
}

func (r *running) await(what string, condition func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not so\n%s", what, r.log)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// metric gives the value of a metric by name and, where it has one, the value of its only label.
func (r *running) metric(name, label string) float64 {
	r.t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	r.t.Fatalf("no metric %s %s", name, label)
	return 0
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
