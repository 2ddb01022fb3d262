package sdsserver

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

type harness struct {
	*Server
	t        *testing.T
	client   secretv3.SecretDiscoveryServiceClient
	rejected atomic.Int32
	log      strings.Builder
}

func start(t *testing.T) *harness {
	t.Helper()
	h := &harness{t: t}
	h.Server = New(slog.New(slog.NewTextHandler(&h.log, nil)), func(string) { h.rejected.Add(1) })
	l, err := Listen(filepath.Join(t.TempDir(), "sds.sock"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(ctx, l, nil) }()
	conn, err := grpc.NewClient("unix:"+l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	h.client = secretv3.NewSecretDiscoveryServiceClient(conn)
	return h
}

// subscription is one stream, as Envoy has it.
type subscription struct {
	t         *testing.T
	stream    secretv3.SecretDiscoveryService_StreamSecretsClient
	names     []string
	responses chan *discoveryv3.DiscoveryResponse
	ended     chan error
	close     context.CancelFunc
}

func (h *harness) subscribe(names ...string) *subscription {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h.t.Cleanup(cancel)
	stream, err := h.client.StreamSecrets(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	s := &subscription{t: h.t, stream: stream, names: names, close: cancel, responses: make(chan *discoveryv3.DiscoveryResponse, 10), ended: make(chan error, 1)}
	go func() {
		for {
			res, err := stream.Recv()
			if err != nil {
				s.ended <- err
				return
			}
			s.responses <- res
		}
	}()
	s.send(&discoveryv3.DiscoveryRequest{TypeUrl: sds.TypeURL, ResourceNames: names})
	return s
}

func (s *subscription) send(req *discoveryv3.DiscoveryRequest) {
	s.t.Helper()
	if err := s.stream.Send(req); err != nil {
		s.t.Fatal(err)
	}
}

func (s *subscription) next() *discoveryv3.DiscoveryResponse {
	s.t.Helper()
	select {
	case res := <-s.responses:
		return res
	case <-time.After(10 * time.Second):
		s.t.Fatal("no response")
		return nil
	}
}

func (s *subscription) ack(res *discoveryv3.DiscoveryResponse) {
	s.t.Helper()
	s.send(&discoveryv3.DiscoveryRequest{TypeUrl: sds.TypeURL, ResourceNames: s.names, VersionInfo: res.GetVersionInfo(), ResponseNonce: res.GetNonce()})
}

func (s *subscription) nack(res *discoveryv3.DiscoveryResponse) {
	s.t.Helper()
	s.send(&discoveryv3.DiscoveryRequest{
		TypeUrl: sds.TypeURL, ResourceNames: s.names, ResponseNonce: res.GetNonce(), ErrorDetail: &statuspb.Status{Message: "bad PEM"},
	})
}

func (h *harness) set(chain, bundle string) {
	h.t.Helper()
	if err := h.Set([]byte(chain), []byte("key"), bundle, "version of "+bundle); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) awaitAcknowledged(want string) {
	h.t.Helper()
	for deadline := time.After(10 * time.Second); ; {
		got, changed := h.Acknowledged()
		if got == want {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			h.t.Fatalf("acknowledged %q, want %q", got, want)
		}
	}
}

func secrets(t *testing.T, res *discoveryv3.DiscoveryResponse) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, r := range res.GetResources() {
		s := &tlsv3.Secret{}
		if err := r.UnmarshalTo(s); err != nil {
			t.Fatal(err)
		}
		out[s.GetName()] = string(s.GetTlsCertificate().GetCertificateChain().GetInlineBytes()) +
			string(s.GetTlsCertificate().GetPrivateKey().GetInlineBytes()) + string(s.GetValidationContext().GetTrustedCa().GetInlineBytes())
	}
	return out
}

func TestAcknowledgements(t *testing.T) {
	h := start(t)
	bundle, workload := h.subscribe(sds.Bundle), h.subscribe(sds.Workload) // before there is anything
	h.awaitAcknowledged("")
	h.set("chain1", "roots1")
	first := bundle.next()
	if got := secrets(t, first); len(got) != 1 || got[sds.Bundle] != "roots1" {
		t.Errorf("got %v", got)
	}
	res := workload.next()
	if got := secrets(t, res); len(got) != 1 || got[sds.Workload] != "chain1key" {
		t.Errorf("got %v", got)
	}
	if strings.Contains(res.GetVersionInfo(), "key") {
		t.Errorf("version %q", res.GetVersionInfo())
	}
	workload.ack(res)
	if got, _ := h.Acknowledged(); got != "" {
		t.Errorf("acknowledged %q by a stream of another secret", got)
	}
	bundle.ack(first)
	h.awaitAcknowledged("version of roots1")

	// A renewed certificate is no news for those who want the roots.
	h.set("chain2", "roots1")
	workload.ack(workload.next())
	h.set("chain2", "roots2")
	second := bundle.next()
	if got := secrets(t, second)[sds.Bundle]; got != "roots2" {
		t.Errorf("got %q: the same roots were sent again", got)
	}
	h.awaitAcknowledged("version of roots1")
	bundle.ack(first) // of an older response
	bundle.nack(second)
	for h.rejected.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	h.awaitAcknowledged("version of roots1")
	h.set("chain2", "roots3")
	bundle.ack(bundle.next())
	h.awaitAcknowledged("version of roots3")

	// All subscriptions count, until they end.
	late := h.subscribe(sds.Bundle, sds.Workload)
	res = late.next()
	if got := secrets(t, res); len(got) != 2 {
		t.Errorf("got %v", got)
	}
	h.awaitAcknowledged("")
	late.ack(res)
	h.awaitAcknowledged("version of roots3")
	h.set("chain2", "roots4")
	late.ack(late.next())
	h.awaitAcknowledged("")
	late.close()
	h.awaitAcknowledged("version of roots3")
	bundle.close()
	h.awaitAcknowledged("")
}

// Envoy does not ask for these; whoever does gets no secret and does no harm.
func TestOddRequests(t *testing.T) {
	h := start(t)
	h.set("chain", "roots")
	other := h.subscribe(sds.Bundle)
	other.next()
	other.send(&discoveryv3.DiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster", ResourceNames: []string{"x"}})
	if err := <-other.ended; status.Code(err) != codes.InvalidArgument {
		t.Errorf("%v, want InvalidArgument", err)
	}
	none := h.subscribe("no-such-secret")
	none.names = []string{"no-such-secret", sds.Workload}
	none.send(&discoveryv3.DiscoveryRequest{TypeUrl: sds.TypeURL, ResourceNames: none.names})
	if got := secrets(t, none.next()); len(got) != 1 || got[sds.Workload] != "chainkey" {
		t.Errorf("got %v", got)
	}
	nobody := h.subscribe()
	nobody.send(&discoveryv3.DiscoveryRequest{TypeUrl: sds.TypeURL, ResponseNonce: "never sent"})
	nobody.close()
	if err := <-nobody.ended; status.Code(err) != codes.Canceled || len(nobody.responses) > 0 {
		t.Errorf("%v, %d responses", err, len(nobody.responses))
	}
}

func TestListen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sds.sock")
	old, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false) // as when a process is killed
	old.Close()
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info, err)
	}
	if _, err := Listen(filepath.Join(t.TempDir(), "no", "such", "dir")); err == nil || !strings.Contains(err.Error(), "socket for secrets") {
		t.Errorf("error %v", err)
	}
}
