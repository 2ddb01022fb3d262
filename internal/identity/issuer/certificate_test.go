package issuer_test

import (
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
)

func TestCertificate(t *testing.T) {
	for name, uris := range map[string][]string{"for its ID": {webID}, "for no name": nil} {
		t.Run(name, func(t *testing.T) {
			w := start(t, nil)
			key := newKey(t, elliptic.P384())
			csr := csrFor(t, key, func(r *x509.CertificateRequest) { r.Subject = pkix.Name{CommonName: "evil", SerialNumber: "evil"} }, uris...)
			status, answer, why := w.post(w.http(), body(t, csr), bearer("good"))
			if status != http.StatusOK {
				t.Fatalf("%d: %s", status, why)
			}
			var got api.Certificate
			if err := json.Unmarshal(answer, &got); err != nil {
				t.Fatal(err)
			}
			certs, err := ca.ParseCertificates([]byte(got.Certificate))
			if err != nil {
				t.Fatal(err)
			}
			leaf := certs[0]
			if !key.PublicKey.Equal(leaf.PublicKey) {
				t.Error("it is for another key")
			}
			if len(leaf.URIs) != 1 || leaf.URIs[0].String() != webID || len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.EmailAddresses) > 0 {
				t.Errorf("names %v %v", leaf.URIs, leaf.DNSNames)
			}
			if leaf.Subject.CommonName != "shop/web-1" || leaf.Subject.SerialNumber != web.UID {
				t.Errorf("subject %v", leaf.Subject)
			}
			if left := time.Until(leaf.NotAfter); left > time.Hour || left < 59*time.Minute {
				t.Errorf("it lives for %v, want 1h", left)
			}
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM([]byte(got.Bundle))
			for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
				if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}); err != nil {
					t.Error(err)
				}
			}
			if n := w.total("signed"); n != 1 {
				t.Errorf("%v counted, want 1", n)
			}
		})
	}
}

// A pod gets its certificate for what the API server says of its token, not for a sidecar: that of a Gateway has none.
func TestCertificateOfAGateway(t *testing.T) {
	const id = "spiffe://cluster.local/ns/shop/sa/edge-mizzen"
	edge := issuer.Caller{Namespace: "shop", ServiceAccount: "edge-mizzen", Pod: "edge-mizzen-5d8f-x2x", UID: "0f2f6a1c-0000-4000-8000-000000000002"}
	w := start(t, func(o *issuer.Options) { o.Tokens = tokens{"good": edge} })
	w.pods.set(edge.UID, issuer.Pod{ServiceAccount: "edge-mizzen", IPs: []netip.Addr{anyPool}})
	status, answer, why := w.post(w.http(), body(t, csrFor(t, newKey(t, elliptic.P256()), nil, id)), bearer("good"))
	if status != http.StatusOK {
		t.Fatalf("%d: %s", status, why)
	}
	var got api.Certificate
	if err := json.Unmarshal(answer, &got); err != nil {
		t.Fatal(err)
	}
	certs, err := ca.ParseCertificates([]byte(got.Certificate))
	if err != nil {
		t.Fatal(err)
	}
	if leaf := certs[0]; len(leaf.URIs) != 1 || leaf.URIs[0].String() != id || leaf.Subject.CommonName != "shop/edge-mizzen-5d8f-x2x" {
		t.Errorf("names %v, subject %v", leaf.URIs, leaf.Subject)
	}
}

// advice is what a refusal says of what to do, by its reason.
var advice = map[string]string{
	"token": "recreate its pod", "request": "recreate the pod", "identity": "for its pod's own service account", "pod": "recreate it",
	"address": "identity.checkSourceAddress",
}

// Each is one thing wrong with a request that is otherwise good.
func TestRefusals(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key := newKey(t, elliptic.P256())
	good := body(t, csrFor(t, key, nil, webID))
	broken := []byte(csrFor(t, key, nil, webID))
	broken[len(broken)/2] ^= 1
	names := func(change func(*x509.CertificateRequest)) string { return body(t, csrFor(t, key, change, webID)) }
	of := func(k any) string { return body(t, csrFor(t, k, nil, webID)) }
	here := []netip.Addr{anyPool}
	tests := []struct {
		name   string
		body   string
		header http.Header
		pod    *issuer.Pod // nil for the right one
		status int
		reason string
		want   []string
	}{
		{"no token", good, http.Header{}, nil, 401, "token", []string{"Bearer"}},
		{"two tokens", good, http.Header{"Authorization": {"Bearer good", "Bearer good"}}, nil, 401, "token", []string{"2 headers"}},
		{"another scheme", good, http.Header{"Authorization": {"Basic good"}}, nil, 401, "token", []string{"Bearer"}},
		{"an empty token", good, bearer(""), nil, 401, "token", []string{}},
		{"a long token", good, bearer(strings.Repeat("a", 16<<10+1)), nil, 401, "token", []string{"16385 bytes"}},
		{"a token with white space", good, bearer("a b"), nil, 401, "token", []string{"characters"}},
		{"a foreign or expired token", good, bearer("bad"), nil, 401, "token", []string{"does not accept"}},
		{"the API server is away", good, bearer("down"), nil, 503, "unavailable", []string{"connection refused"}},

		{"no body", "", bearer("good"), nil, 400, "request", []string{"body"}},
		{"no JSON", "x", bearer("good"), nil, 400, "request", []string{"body"}},
		{"another field", `{"csr":"","sa":"root"}`, bearer("good"), nil, 400, "request", []string{`"sa"`}},
		{"more behind it", good + "{}", bearer("good"), nil, 400, "request", []string{"nothing after"}},
		{"a large body", `{"csr":"` + strings.Repeat("a", api.MaxBody) + `"}`, bearer("good"), nil, 400, "request", []string{"too large"}},
		{"no CSR", body(t, ""), bearer("good"), nil, 400, "request", []string{"CERTIFICATE REQUEST"}},
		{"a CSR that is none", body(t, "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"), bearer("good"), nil, 400, "request", []string{"csr"}},
		{"a broken CSR", body(t, string(broken)), bearer("good"), nil, 400, "request", []string{"csr"}},
		{"two CSRs", body(t, csrFor(t, key, nil)+csrFor(t, key, nil)), bearer("good"), nil, 400, "request", []string{"one PEM block"}},
		{"a weak key", of(newKey(t, elliptic.P224())), bearer("good"), nil, 400, "request", []string{"224 bits", "256"}},
		{"an RSA key", of(rsaKey), bearer("good"), nil, 400, "request", []string{"RSA", "ECDSA"}},
		{"an Ed25519 key", of(edKey), bearer("good"), nil, 400, "request", []string{"Ed25519", "ECDSA"}},
		{"a DNS name", names(func(r *x509.CertificateRequest) { r.DNSNames = []string{service} }), bearer("good"), nil, 400, "request", []string{"no name"}},
		{"an address", names(func(r *x509.CertificateRequest) { r.IPAddresses = []net.IP{net.IPv4(10, 0, 0, 1)} }), bearer("good"), nil, 400, "request", []string{"no name"}},
		{"an email address", names(func(r *x509.CertificateRequest) { r.EmailAddresses = []string{"a@b"} }), bearer("good"), nil, 400, "request", []string{"no name"}},
		{"two IDs", body(t, csrFor(t, key, nil, webID, webID)), bearer("good"), nil, 400, "request", []string{"one URI"}},

		{"another service account", body(t, csrFor(t, key, nil, "spiffe://cluster.local/ns/shop/sa/admin")), bearer("good"), nil, 403, "identity", []string{"sa/admin", webID}},
		{"another namespace", body(t, csrFor(t, key, nil, "spiffe://cluster.local/ns/bank/sa/web")), bearer("good"), nil, 403, "identity", []string{"ns/bank"}},
		{"another trust domain", body(t, csrFor(t, key, nil, "spiffe://evil/ns/shop/sa/web")), bearer("good"), nil, 403, "identity", []string{"evil"}},
		{"another scheme of ID", body(t, csrFor(t, key, nil, "https://cluster.local/ns/shop/sa/web")), bearer("good"), nil, 403, "identity", []string{"https://"}},

		{"the pod is of another account", good, bearer("good"), &issuer.Pod{ServiceAccount: "other", IPs: here}, 403, "pod", []string{"shop/web-1", `"other"`}},
		{"the pod has ended", good, bearer("good"), &issuer.Pod{ServiceAccount: "web", IPs: here, Ended: true}, 403, "pod", []string{"ended"}},
		{"from another address", good, bearer("good"), &issuer.Pod{ServiceAccount: "web", IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3")}}, 403, "address", []string{"127.0.0.1", "10.1.2.3", "checkSourceAddress"}},
		{"no address yet", good, bearer("good"), &issuer.Pod{ServiceAccount: "web"}, 503, "unavailable", []string{"no address yet"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var told, toldOfAddress []error
			logged := make(chan string, 100)
			w := start(t, func(o *issuer.Options) {
				o.PodWait = 100 * time.Millisecond
				o.Log = funcr.New(func(_, args string) { logged <- args }, funcr.Options{})
				o.RefusedFrom = func(from netip.Addr, err error) {
					if from != anyPool {
						t.Errorf("told of %s", from)
					}
					toldOfAddress = append(toldOfAddress, err)
				}
				o.Refused = func(c issuer.Caller, err error) {
					if c != web {
						t.Errorf("told of %+v", c)
					}
					told = append(told, err)
				}
			})
			if tt.pod != nil {
				w.pods.set(web.UID, *tt.pod)
			}
			status, answer, why := w.post(w.http(), tt.body, tt.header)
			if status != tt.status {
				t.Fatalf("%d %s, want %d", status, answer, tt.status)
			}
			for _, want := range tt.want {
				if !strings.Contains(why, want) {
					t.Errorf("%q does not say %q", why, want)
				}
			}
			if n := w.total(tt.reason); n != 1 {
				t.Errorf("%v counted as %q, want 1", n, tt.reason)
			}
			if n := w.total("signed"); n != 0 {
				t.Errorf("%v signed", n)
			}
			if err := w.stop(); err != nil {
				t.Error(err)
			}
			if known := tt.status == http.StatusForbidden; known != (len(told) == 1) || known && told[0].Error() != why {
				t.Errorf("told of the pod: %v", told)
			}
			if unknown := tt.status < http.StatusForbidden; unknown != (len(toldOfAddress) == 1) || unknown && toldOfAddress[0].Error() != why {
				t.Errorf("told of the address: %v", toldOfAddress)
			}
			if tt.status < http.StatusInternalServerError && !strings.Contains(why, advice[tt.reason]) {
				t.Errorf("%q does not say what to do: %q", why, advice[tt.reason])
			}
			if len(logged) != 1 {
				t.Fatalf("%d lines of log, want 1", len(logged))
			}
			if line := <-logged; !strings.Contains(line, strconv.Quote(why)) || !strings.Contains(line, `"reason"="`+tt.reason+`"`) || !strings.Contains(line, "127.0.0.1") {
				t.Errorf("log %s", line)
			}
		})
	}
}

func TestPodIsGone(t *testing.T) {
	w := start(t, nil)
	delete(w.pods.of, web.UID)
	status, _, why := w.post(w.http(), body(t, csrFor(t, newKey(t, elliptic.P256()), nil)), bearer("good"))
	if status != http.StatusForbidden || !strings.Contains(why, web.UID) {
		t.Errorf("%d: %s", status, why)
	}
}

// The kubelet tells a pod's address at about the time at which its sidecar asks.
func TestPodAddressComes(t *testing.T) {
	w := start(t, nil)
	w.pods.set(web.UID, issuer.Pod{ServiceAccount: "web"})
	w.pods.seen = func(look int) {
		if look == 3 {
			w.pods.set(web.UID, issuer.Pod{ServiceAccount: "web", IPs: []netip.Addr{anyPool}})
		}
	}
	w.certificate()
}

func TestSourceAddressIsNotChecked(t *testing.T) {
	w := start(t, func(o *issuer.Options) { o.CheckSourceAddress = false })
	w.pods.set(web.UID, issuer.Pod{ServiceAccount: "web"})
	w.certificate()
}

// An agent whose certificate is of no use any more gets another with its token.
func TestClientCertificateDoesNotMatter(t *testing.T) {
	w := start(t, nil)
	other, err := ca.Generate(ca.Options{CommonName: "foreign", Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := other.Issue(ca.Leaf{CommonName: "x", Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	status, _, why := w.post(w.http(*foreign), body(t, csrFor(t, newKey(t, elliptic.P256()), nil)), bearer("good"))
	if status != http.StatusOK {
		t.Errorf("%d: %s", status, why)
	}
}

func TestRate(t *testing.T) {
	w := start(t, nil)
	c := w.http()
	for range 2 * issuer.RequestsAtOnce {
		if status, _, why := w.post(c, "", http.Header{}); status == http.StatusTooManyRequests {
			if !strings.Contains(why, "127.0.0.1") {
				t.Errorf("it does not say whose: %q", why)
			}
			return
		}
	}
	t.Error("no request was one too many")
}

// Neither old TLS nor plain text nor another path gets anywhere.
func TestOtherWaysIn(t *testing.T) {
	w := start(t, nil)
	old := &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}
	if c, err := tls.Dial("tcp", w.addr, old); err == nil {
		c.Close()
		t.Error("TLS 1.2 is spoken")
	}
	if res, err := http.Get("http://" + w.addr + api.CertificatePath); err == nil {
		res.Body.Close()
		if res.StatusCode != http.StatusBadRequest {
			t.Errorf("plain text gets %d", res.StatusCode)
		}
	}
	for _, path := range []string{"/", issuer.DebugPath, "/metrics", "/v1/certificate/x", "/v1/certificate"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+w.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if status, _, _ := w.do(w.http(), req); status != http.StatusNotFound && status != http.StatusMethodNotAllowed {
			t.Errorf("%s: %d", path, status)
		}
	}
}
