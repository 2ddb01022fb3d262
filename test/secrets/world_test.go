package secrets

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	agentidentity "github.com/mizzen-mesh/mizzen/internal/agent/identity"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

// world is a control plane as far as identities go, and all that it and its agents have printed.
type world struct {
	t                     *testing.T
	kubernetes            client.Client
	authority             *authority.Manager
	issuer                *issuer.Server
	addr                  string
	recorder              *events.FakeRecorder
	metrics, agentMetrics *prometheus.Registry

	mu    sync.Mutex
	texts map[string]*bytes.Buffer
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, kubernetes: fake.NewClientBuilder().Build(), recorder: events.NewFakeRecorder(100),
		metrics: prometheus.NewRegistry(), agentMetrics: prometheus.NewRegistry(), texts: map[string]*bytes.Buffer{},
	}
	id, err := spiffe.Of("cluster.local", "mizzen-system", "mizzen-controller")
	if err != nil {
		t.Fatal(err)
	}
	serving := authority.ServingLeaf(id, "mizzen-controller.mizzen-system.svc")
	serving.IPs, serving.Lifetime = []net.IP{net.IPv4(127, 0, 0, 1)}, time.Hour
	log := logr.FromSlogHandler(w.log("the control plane's log"))
	w.authority, err = authority.New(authority.Options{
		TrustDomain: "cluster.local", Serving: serving, Agents: func(context.Context) authority.Agents { return authority.Agents{} },
		Options: casecret.Options{
			Namespace: "mizzen-system", SecretName: "mizzen-ca",
			Lifetimes: rotation.Lifetimes{CA: ca.Options{CommonName: "test"}, CALifetime: 24 * time.Hour, LeafLifetime: time.Hour},
			Client:    w.kubernetes, Reader: w.kubernetes,
			Owner:    func(context.Context) (metav1.OwnerReference, error) { return metav1.OwnerReference{UID: "1"}, nil },
			IsLeader: func() bool { return true },
			Recorder: w.recorder, Registerer: w.metrics, Log: log, Now: time.Now,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	w.issuer, err = issuer.New(issuer.Options{
		CA: w.authority, Tokens: tokens{}, Pods: pods{}, TrustDomain: "cluster.local", TLS: w.authority.TLS(false), CheckSourceAddress: true,
		Refused: func(c issuer.Caller, why error) {
			w.wrote("the events", []byte(c.Namespace+"/"+c.Pod+": "+why.Error()+"\n"))
		},
		Log: log, Registerer: w.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.issuer.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return w
}

type tokens struct{}

func (tokens) Review(_ context.Context, token string) (issuer.Caller, error) {
	if token != goodToken {
		return issuer.Caller{}, issuer.ErrToken
	}
	return issuer.Caller{Namespace: "shop", ServiceAccount: "web", Pod: "web-1", UID: "1"}, nil
}

type pods struct{}

func (pods) Pod(context.Context, string, string, string) (issuer.Pod, error) {
	return issuer.Pod{ServiceAccount: "web", IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}, nil
}

// wrote notes what a part has printed.
func (w *world) wrote(part string, text []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.texts[part] == nil {
		w.texts[part] = &bytes.Buffer{}
	}
	w.texts[part].Write(text)
}

func (w *world) printed(part string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.texts[part] == nil {
		return ""
	}
	return w.texts[part].String()
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// log takes every level.
func (w *world) log(part string) slog.Handler {
	return slog.NewJSONHandler(writer(func(b []byte) { w.wrote(part, b) }), &slog.HandlerOptions{Level: slog.Level(-100)})
}

func (w *world) reconcile() {
	w.t.Helper()
	if _, err := w.authority.Reconcile(w.t.Context(), reconcile.Request{}); err != nil {
		w.t.Fatal(err)
	}
	for len(w.recorder.Events) > 0 {
		w.wrote("the events", []byte(<-w.recorder.Events+"\n"))
	}
}

var caKey = client.ObjectKey{Namespace: "mizzen-system", Name: "mizzen-ca"}

func (w *world) secret() *corev1.Secret {
	w.t.Helper()
	s := &corev1.Secret{}
	if err := w.kubernetes.Get(w.t.Context(), caKey, s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) record() *corev1.ConfigMap {
	w.t.Helper()
	c := &corev1.ConfigMap{}
	if err := w.kubernetes.Get(w.t.Context(), caKey, c); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// breakSecret puts another CA's key into the Secret, and gives its shapes.
func (w *world) breakSecret() []string {
	w.t.Helper()
	other, err := ca.Generate(ca.Options{CommonName: "other", Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := other.KeyPEM()
	if err != nil {
		w.t.Fatal(err)
	}
	s := w.secret()
	s.Data[corev1.TLSPrivateKeyKey] = key
	if err := w.kubernetes.Update(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
	w.reconcile()
	w.wrote("readiness", []byte(w.authority.Note()))
	return shapes(w.t, key)
}

func (w *world) page(h http.Handler) []byte {
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/", nil))
	return rec.Body.Bytes()
}

// start runs an agent with a token until the returned function is called.
func (w *world) start(token string, r prometheus.Registerer) (i *agentidentity.Identity, dir string, stop func()) {
	w.t.Helper()
	dir = w.t.TempDir()
	tokenFile := filepath.Join(w.t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(token), 0o600); err != nil {
		w.t.Fatal(err)
	}
	bundle, _, _ := w.authority.Bundle()
	i, err := agentidentity.New(agentidentity.Options{
		Address: w.addr, Namespace: "shop", ServiceAccount: "web", Bundle: bundle, TokenFile: tokenFile, Dir: dir,
		Keep:       agentidentity.Keep{File: filepath.Join(dir, "roots"), Key: "a key"},
		Registerer: r, Log: slog.New(w.log("the agent's log")),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := i.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	return i, dir, func() { cancel(); running.Wait() }
}

// agent gets a certificate with a token, and gives its key as Envoy gets it. What it leaves on disk is noted.
func (w *world) agent(token string) (key []byte) {
	w.t.Helper()
	i, dir, stop := w.start(token, w.agentMetrics)
	defer stop()
	select {
	case <-i.Obtained():
	case <-time.After(patience):
		w.t.Fatal(i.Missing())
	}
	conn, err := grpc.NewClient("unix:"+agentidentity.SocketPath(dir), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		w.t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	answer, err := firstAnswer(ctx, secretv3.NewSecretDiscoveryServiceClient(conn))
	if err != nil {
		w.t.Fatal(err)
	}
	secret := &tlsv3.Secret{}
	if err := answer.Resources[0].UnmarshalTo(secret); err != nil {
		w.t.Fatal(err)
	}
	w.readFiles(dir)
	return secret.GetTlsCertificate().GetPrivateKey().GetInlineBytes()
}

func firstAnswer(ctx context.Context, c secretv3.SecretDiscoveryServiceClient) (*discoveryv3.DiscoveryResponse, error) {
	stream, err := c.StreamSecrets(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{ResourceNames: []string{sds.Workload}, TypeUrl: sds.TypeURL}); err != nil {
		return nil, err
	}
	return stream.Recv()
}

func (w *world) readFiles(dir string) {
	w.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		w.wrote("the agent's files", b)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// refused has an agent ask in vain, and a stranger for another identity.
func (w *world) refused(token string) {
	w.t.Helper()
	i, _, stop := w.start(token, prometheus.NewRegistry())
	defer stop()
	for deadline := time.Now().Add(patience); !strings.Contains(i.Missing(), ": "); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			w.t.Fatal("the agent is not refused")
		}
	}
	w.wrote("the agent's log", []byte(i.Missing()))
	bundle, _, _ := w.authority.Bundle()
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(bundle))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	other := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/shop/sa/admin"}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{URIs: []*url.URL{other}}, key)
	if err != nil {
		w.t.Fatal(err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	body, err := json.Marshal(api.CertificateRequest{CSR: string(csr)})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, token := range []string{token, goodToken} {
		w.stranger(pool, token, body)
	}
}

func (w *world) stranger(pool *x509.CertPool, token string, body []byte) {
	w.t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "https://"+w.addr+api.CertificatePath, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := transport.RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode == http.StatusOK {
		w.t.Fatalf("%s, %v", res.Status, err)
	}
	w.wrote("readiness", answer)
}
