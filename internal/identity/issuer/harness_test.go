package issuer_test

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
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

const (
	trustDomain = "cluster.local"
	service     = "mizzen-controller.mizzen-system.svc"
	webID       = "spiffe://cluster.local/ns/shop/sa/web"
)

var (
	web     = issuer.Caller{Namespace: "shop", ServiceAccount: "web", Pod: "web-1", UID: "0f2f6a1c-0000-4000-8000-000000000001"}
	anyPool = netip.MustParseAddr("127.0.0.1")
)

// tokens are those that the API server accepts; "down" is while it is not there.
type tokens map[string]issuer.Caller

func (t tokens) Review(_ context.Context, token string) (issuer.Caller, error) {
	if token == "down" {
		return issuer.Caller{}, errors.New("connection refused")
	}
	if c, ok := t[token]; ok {
		return c, nil
	}
	return issuer.Caller{}, fmt.Errorf("%w: the API server does not accept it", issuer.ErrToken)
}

// pods by UID; each look at one counts.
type pods struct {
	mu    sync.Mutex
	of    map[string]issuer.Pod
	looks int
	// seen is called at each look, with its number.
	seen func(look int)
}

func (p *pods) Pod(_ context.Context, _, _, uid string) (issuer.Pod, error) {
	p.mu.Lock()
	p.looks++
	look, seen := p.looks, p.seen
	p.mu.Unlock()
	if seen != nil {
		seen(look)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	pod, ok := p.of[uid]
	if !ok {
		return issuer.Pod{}, issuer.ErrNoPod
	}
	return pod, nil
}

func (p *pods) set(uid string, pod issuer.Pod) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of[uid] = pod
}

// world is a server on loopback with a CA of its own.
type world struct {
	*issuer.Server
	t       *testing.T
	ca      *authority.Manager
	client  client.Client
	pods    *pods
	metrics *prometheus.Registry
	addr    string
	// stop ends the server and waits for it.
	stop func() error
}

func start(t *testing.T, change func(*issuer.Options)) *world {
	t.Helper()
	w := &world{t: t, metrics: prometheus.NewRegistry(), client: fake.NewClientBuilder().Build(),
		pods: &pods{of: map[string]issuer.Pod{web.UID: {ServiceAccount: "web", IPs: []netip.Addr{anyPool}}}}}
	id, err := spiffe.Of(trustDomain, "mizzen-system", "mizzen-controller")
	if err != nil {
		t.Fatal(err)
	}
	serving := authority.ServingLeaf(id, service)
	serving.Lifetime = time.Hour
	w.ca, err = authority.New(authority.Options{
		TrustDomain: trustDomain, Serving: serving, Agents: func(context.Context) authority.Agents { return authority.Agents{} },
		Options: casecret.Options{
			Namespace: "mizzen-system", SecretName: "mizzen-ca",
			Lifetimes: rotation.Lifetimes{CA: ca.Options{CommonName: "test"}, CALifetime: 24 * time.Hour, LeafLifetime: time.Hour},
			Client:    w.client, Reader: w.client,
			Owner: func(context.Context) (metav1.OwnerReference, error) {
				return metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: "s", UID: "1"}, nil
			},
			IsLeader: func() bool { return true },
			Recorder: events.NewFakeRecorder(100), Registerer: prometheus.NewRegistry(), Log: logr.Discard(), Now: time.Now,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	w.reconcile()
	o := issuer.Options{
		CA: w.ca, Tokens: tokens{"good": web}, Pods: w.pods, TrustDomain: trustDomain, TLS: w.ca.TLS(false), CheckSourceAddress: true,
		Log: logr.Discard(), Registerer: w.metrics, PodWait: 5 * time.Second,
	}
	if change != nil {
		change(&o)
	}
	if w.Server, err = issuer.New(o); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Serve(ctx, l) }()
	w.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// reconcile looks at the Secret once.
func (w *world) reconcile() {
	w.t.Helper()
	if _, err := w.ca.Reconcile(w.t.Context(), reconcile.Request{}); err != nil {
		w.t.Fatal(err)
	}
}

// replaceCA makes the Secret somebody else's, with another root.
func (w *world) replaceCA() *ca.Authority {
	w.t.Helper()
	other, err := ca.Generate(ca.Options{CommonName: "other", Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := other.KeyPEM()
	if err != nil {
		w.t.Fatal(err)
	}
	secret := &corev1.Secret{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: "mizzen-system", Name: "mizzen-ca"}, secret); err != nil {
		w.t.Fatal(err)
	}
	secret.Data = map[string][]byte{"tls.crt": other.CertPEM(), "tls.key": key, "ca.crt": other.CertPEM()}
	if err := w.client.Update(w.t.Context(), secret); err != nil {
		w.t.Fatal(err)
	}
	w.reconcile()
	return other
}

// http is a client that trusts the mesh, with a certificate or none.
func (w *world) http(certs ...tls.Certificate) *http.Client {
	bundle, _, _ := w.ca.Bundle()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: service, Certificates: certs, MinVersion: tls.VersionTLS13}}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// post asks for a certificate and gives the status, the answer's body and the error in it.
func (w *world) post(c *http.Client, body string, header http.Header) (status int, answer []byte, why string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "https://"+w.addr+api.CertificatePath, bytes.NewReader([]byte(body)))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header = header
	return w.do(c, req)
}

func (w *world) do(c *http.Client, req *http.Request) (status int, answer []byte, why string) {
	w.t.Helper()
	res, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	if answer, err = io.ReadAll(res.Body); err != nil {
		w.t.Fatal(err)
	}
	var e api.Error
	_ = json.Unmarshal(answer, &e)
	return res.StatusCode, answer, e.Error
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func newKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// csrFor is the PEM of a signing request with URIs, which change may add to.
func csrFor(t testing.TB, key any, change func(*x509.CertificateRequest), uris ...string) string {
	t.Helper()
	req := &x509.CertificateRequest{}
	for _, uri := range uris {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		req.URIs = append(req.URIs, u)
	}
	if change != nil {
		change(req)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, req, key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

func body(t testing.TB, csr string) string {
	t.Helper()
	b, err := json.Marshal(api.CertificateRequest{CSR: csr})
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// certificate gets one for the pod web.
func (w *world) certificate() tls.Certificate {
	w.t.Helper()
	key := newKey(w.t, elliptic.P256())
	status, answer, why := w.post(w.http(), body(w.t, csrFor(w.t, key, nil, webID)), bearer("good"))
	if status != http.StatusOK {
		w.t.Fatalf("%d: %s", status, why)
	}
	var c api.Certificate
	if err := json.Unmarshal(answer, &c); err != nil {
		w.t.Fatal(err)
	}
	keyPEM, err := ca.EncodeKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair([]byte(c.Certificate), keyPEM)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

// total is the number of requests with a result.
func (w *world) total(result string) float64 {
	w.t.Helper()
	families, err := w.metrics.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == result {
				return m.Counter.GetValue()
			}
		}
	}
	return 0
}
