// Package authoritytest is a control plane's identity server for tests of the agent: it signs for whoever
// shows its token, and its roots can be replaced step by step. It may import internal/ca and
// internal/identity/api of this module.
package authoritytest

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

// Token is what the server takes.
const Token = "a-token-of-the-pod"

// ID is what it gives everybody.
const ID = "spiffe://cluster.local/ns/shop/sa/cart"

// Server signs certificates and tells the roots. Its fields are for the test to change, with Change.
type Server struct {
	Addr string

	mu      sync.Mutex
	changed chan struct{}
	state   State
	signed  []*x509.Certificate
	asked   int
	haves   []string
}

// State is what the server does.
type State struct {
	Signer *ca.Authority
	Roots  []*ca.Authority
	// Life of the certificates.
	Life time.Duration
	// ID of the certificates, in place of ID.
	ID string
	// Answer, where set, answers requests for certificates instead; false leaves it to the server.
	Answer func(w http.ResponseWriter, r *http.Request) bool
	// AnswerBundle does the same for requests for the roots.
	AnswerBundle func(w http.ResponseWriter, r *http.Request) bool
	// Wait bounds the long poll.
	Wait time.Duration
}

// NewRoot makes a root.
func NewRoot(t testing.TB, name string) *ca.Authority {
	t.Helper()
	a, err := ca.Generate(ca.Options{CommonName: name, Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Bundle of some roots.
func Bundle(roots ...*ca.Authority) string {
	var certs []*x509.Certificate
	for _, r := range roots {
		certs = append(certs, r.Certificate())
	}
	return api.Roots(certs...)
}

// Start serves on an address of 127.0.0.1 until the test ends, with one root that signs.
func Start(t testing.TB, life time.Duration) *Server {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return StartOn(t, l, NewRoot(t, "first"), life)
}

// StartOn does the same with a given listener and root.
func StartOn(t testing.TB, l net.Listener, root *ca.Authority, life time.Duration) *Server {
	t.Helper()
	s := &Server{
		Addr: l.Addr().String(), changed: make(chan struct{}),
		state: State{Signer: root, Roots: []*ca.Authority{root}, Life: life, ID: ID, Wait: 5 * time.Second},
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+api.CertificatePath, s.certificate)
	mux.HandleFunc("GET "+api.BundlePath, s.bundle)
	server := httptest.NewUnstartedServer(mux)
	server.Listener.Close()
	server.Listener = l
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = s.TLS(tls.VerifyClientCertIfGiven, "http/1.1")
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// TLS is what the control plane serves with: a fresh certificate for each handshake, of the signer of the moment.
func (s *Server) TLS(auth tls.ClientAuthType, alpn string) *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{alpn}}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := s.State()
		cert, err := now.Signer.Issue(ca.Leaf{
			DNSNames: []string{"localhost"}, IPs: []net.IP{net.IPv4(127, 0, 0, 1)}, Now: time.Now(), Lifetime: time.Hour,
			Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		if err != nil {
			return nil, err
		}
		c := base.Clone()
		c.GetConfigForClient = nil
		c.Certificates, c.ClientAuth, c.ClientCAs = []tls.Certificate{*cert}, auth, Pool(now.Roots...)
		return c, nil
	}
	// httptest adds one of its own where there is none.
	base.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil }
	return base
}

// Pool of some roots.
func Pool(roots ...*ca.Authority) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, r := range roots {
		pool.AddCert(r.Certificate())
	}
	return pool
}

// State is a copy.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Change changes what the server does, and wakes who waits for other roots.
func (s *Server) Change(change func(*State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.state)
	close(s.changed)
	s.changed = make(chan struct{})
}

// Signed lists the certificates so far.
func (s *Server) Signed() []*x509.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*x509.Certificate(nil), s.signed...)
}

// Asked is the number of requests for certificates so far.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Has tells whether the client's last word is that it has the present roots.
func (s *Server) Has() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.haves) > 0 && s.haves[len(s.haves)-1] == api.Version(Bundle(s.state.Roots...))
}

// Haves is what the client has said of its roots so far.
func (s *Server) Haves() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.haves...)
}

func (s *Server) certificate(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked++
	now := s.state
	s.mu.Unlock()
	if now.Answer != nil && now.Answer(w, r) {
		return
	}
	if r.Header.Get("Authorization") != "Bearer "+Token {
		refuse(w, http.StatusUnauthorized, "no token")
		return
	}
	var req api.CertificateRequest
	if err := json.NewDecoder(io.LimitReader(r.Body, api.MaxBody)).Decode(&req); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	cert, err := sign(now, req.CSR)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	s.mu.Lock()
	s.signed = append(s.signed, cert)
	s.mu.Unlock()
	_ = json.NewEncoder(w).Encode(api.Certificate{Certificate: string(ca.EncodeCertificates(cert)), Bundle: Bundle(now.Roots...)})
}

func sign(now State, text string) (*x509.Certificate, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, io.ErrUnexpectedEOF
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, err
	}
	if _, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok {
		return nil, x509.ErrUnsupportedAlgorithm
	}
	id, err := url.Parse(now.ID)
	if err != nil {
		return nil, err
	}
	return now.Signer.SignCSR(ca.Leaf{
		CommonName: "shop/cart-7d4b9-x2x", URIs: []*url.URL{id}, Now: time.Now(), Lifetime: now.Life,
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}, csr)
}

func (s *Server) bundle(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		refuse(w, http.StatusUnauthorized, "no certificate")
		return
	}
	have := r.FormValue(api.HaveParameter)
	s.mu.Lock()
	s.haves = append(s.haves, have)
	now := s.state
	s.mu.Unlock()
	if now.AnswerBundle != nil && now.AnswerBundle(w, r) {
		return
	}
	timeout := time.NewTimer(now.Wait)
	defer timeout.Stop()
	for {
		s.mu.Lock()
		bundle, changed := Bundle(s.state.Roots...), s.changed
		s.mu.Unlock()
		if version := api.Version(bundle); version != have {
			_ = json.NewEncoder(w).Encode(api.Bundle{Bundle: bundle, Version: version})
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			w.WriteHeader(http.StatusNoContent)
			return
		case <-r.Context().Done():
			return
		}
	}
}

func refuse(w http.ResponseWriter, status int, text string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(api.Error{Error: strings.TrimSpace(text)})
}
