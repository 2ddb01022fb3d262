package agent

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

// Certificates that live for seconds are renewed, and the root is replaced, without a request or a
// stream that fails.
func TestRenewalAndRotationBreakNothing(t *testing.T) {
	p := startPair(t, 3*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			fmt.Fprint(w, "ok")
			return
		}
		for r.Context().Err() == nil { // a stream that never pauses for long
			if _, err := fmt.Fprintln(w, "tick"); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}))
	p.awaitReady(200, "ready")
	stream, err := http.Get("http://" + p.outbound + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	var ticks atomic.Int64
	streamEnded := make(chan error, 1)
	go func() {
		line := make([]byte, len("tick\n"))
		for {
			if _, err := io.ReadFull(stream.Body, line); err != nil {
				streamEnded <- err
				return
			}
			ticks.Add(1)
		}
	}()
	load := startLoad("http://" + p.outbound)
	defer load.stop()

	first := p.serverCertificate(t)
	eventually(t, func() bool { return len(p.authority.Signed()) >= 4 }, func() string { return "no three renewals" })
	renewed := p.awaitServing(t, "a renewed certificate", func(c *x509.Certificate) bool { return !c.Equal(first) })
	if old, ok := first.PublicKey.(interface{ Equal(x any) bool }); ok && old.Equal(renewed.PublicKey) {
		t.Error("the key is the same as before the renewal")
	}

	old, next := p.authority.State().Signer, authoritytest.NewRoot(t, "second")
	rotate := func(what string, change func(*authoritytest.State)) {
		t.Helper()
		p.authority.Change(change)
		eventually(t, p.authority.Has, func() string { return what + ": the agent does not say that Envoy has the roots" })
	}
	rotate("trust both", func(s *authoritytest.State) { s.Roots = []*ca.Authority{old, next} })
	p.authority.Change(func(s *authoritytest.State) { s.Signer = next })
	p.awaitServing(t, "a certificate of the new root", func(c *x509.Certificate) bool {
		return c.CheckSignatureFrom(next.Certificate()) == nil
	})
	rotate("forget the old", func(s *authoritytest.State) { s.Roots = []*ca.Authority{next} })
	before := len(p.authority.Signed())
	eventually(t, func() bool { return len(p.authority.Signed()) > before }, func() string { return "no renewal after the rotation" })
	if kept, err := os.ReadFile(filepath.Join(p.dir, "mizzen-roots")); err != nil || !strings.HasSuffix(string(kept), "\n"+authoritytest.Bundle(next)) {
		t.Errorf("the roots kept: %v\n%s", err, kept)
	}

	seen := ticks.Load()
	eventually(t, func() bool { return ticks.Load() > seen }, func() string { return "the stream stands still" })
	select {
	case err := <-streamEnded:
		t.Errorf("the stream ended: %v", err)
	default:
	}
	done, failed := load.stop()
	t.Logf("%d certificates, %d requests with a connection each, %d ticks of one stream", len(p.authority.Signed()), done, ticks.Load())
	if len(failed) > 0 || done < 100 {
		t.Errorf("%d of %d requests failed, the first: %v", len(failed), done, failed[0])
	}
	if _, metrics := p.get("/metrics"); strings.Contains(metrics, `"sds`) {
		t.Error("the secrets' cluster has statistics")
	}
	if n := p.cp.opened(); n != 1 {
		t.Errorf("%d ADS streams, want the one of the beginning", n)
	}
}

// Until there is a certificate the pod is held, and told why; Envoy goes on by itself when it comes.
func TestReadinessWaitsForACertificate(t *testing.T) {
	authority := authoritytest.Start(t, time.Hour)
	authority.Change(func(s *authoritytest.State) {
		s.Answer = func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, `{"error": "the pod has no address yet"}`, http.StatusServiceUnavailable)
			return true
		}
	})
	cp := startSecureControlPlane(t, authority)
	cp.send(clusterType)
	cp.send(listenerType)
	r := start(t, cp.addr, withIdentity(t, authority, authority.State().Roots...))
	r.awaitReady(503, "waiting for a certificate from the control plane ("+authority.Addr+"): answered with 503: the pod has no address yet")
	if code, _ := r.get("/healthz"); code != 200 {
		t.Errorf("/healthz: %d, want 200: the agent itself is well", code)
	}
	authority.Change(func(s *authoritytest.State) { s.Answer = nil })
	r.awaitReady(200, "ready")
	if _, metrics := r.get("/metrics"); !strings.Contains(metrics, `mizzen_agent_certificate_requests_total{result="signed"} 1`) {
		t.Errorf("the request is not counted:\n%s", metrics)
	}
}

var refusedTwice = regexp.MustCompile(`(?m)^envoy_cluster_upstream_cx_connect_fail\{envoy_cluster_name="mizzen-control-plane"\} ([2-9]|[1-9][0-9]+)$`)

// A control plane that the mesh's roots do not vouch for, or that has another name, gets no stream.
func TestOtherControlPlanesAreRefused(t *testing.T) {
	authority := authoritytest.Start(t, time.Hour)
	stranger := authoritytest.Start(t, time.Hour)
	strange := startSecureControlPlane(t, stranger)
	workload := startControlPlane(t, listentest.FreeAddress(t), grpc.Creds(credentials.NewTLS(workloadTLS(t, authority))))
	for name, cp := range map[string]*controlPlaneStub{"another root": strange, "a workload": workload} {
		t.Run(name, func(t *testing.T) {
			cp.send(clusterType)
			cp.send(listenerType)
			r := start(t, cp.addr, withIdentity(t, authority, authority.State().Roots...))
			eventually(t, func() bool {
				_, metrics := r.get("/metrics")
				return refusedTwice.MatchString(metrics)
			}, func() string { return "Envoy does not try" })
			r.awaitReady(503, "not connected")
			if n := cp.opened(); n != 0 {
				t.Errorf("%d streams", n)
			}
		})
	}
}

// workloadTLS serves with a certificate of the mesh that names no host.
func workloadTLS(t *testing.T, authority *authoritytest.Server) *tls.Config {
	t.Helper()
	id, err := url.Parse(authoritytest.ID)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.State().Signer.Issue(ca.Leaf{
		URIs: []*url.URL{id}, Now: time.Now(), Lifetime: time.Hour, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS13}
}

// The key is where Envoy gets it and nowhere else.
func TestKeyIsNotShown(t *testing.T) {
	p := startPair(t, time.Hour, http.NotFoundHandler())
	p.awaitReady(200, "ready")
	socket := filepath.Join(p.dir, "sds.sock")
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info, err)
	}
	key := fetchKey(t, socket)
	admin := newAdminClient(filepath.Join(p.dir, "admin.sock"))
	dump := func(path string) string {
		res, err := admin.open(t.Context(), http.MethodGet, path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	texts := map[string]string{"/config_dump": dump("/config_dump?include_eds"), "/certs": dump("/certs"), "/stats": dump("/stats")}
	if !strings.Contains(texts["/config_dump"], "dynamic_active_secrets") || !strings.Contains(texts["/config_dump"], base64.StdEncoding.EncodeToString([]byte("[redacted]"))) {
		t.Error("Envoy's dump has no secrets, not even redacted ones: the test sees nothing")
	}
	for _, path := range []string{"/metrics", "/readyz", "/healthz", agentapi.IdentityPath, agentapi.PlainTextPath} {
		_, texts[path] = p.get(path)
	}
	files, err := filepath.Glob(filepath.Join(p.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			texts[file] = string(b)
		}
	}
	texts["log"] = p.log.String()
	for name, text := range texts {
		for _, form := range forms(key) {
			if strings.Contains(text, form) {
				t.Errorf("%s shows the private key", name)
			}
		}
	}
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.envoyPID())); err != nil || !strings.Contains(string(limits), "Max core file size        1 ") {
		t.Errorf("Envoy may dump core: %v\n%s", err, limits)
	}
}

// forms are pieces of a PEM key as it might be written somewhere.
func forms(key []byte) []string {
	lines := strings.Split(strings.TrimSpace(string(key)), "\n")
	middle := lines[1 : len(lines)-1]
	return append([]string{"PRIVATE KEY", base64.StdEncoding.EncodeToString(key)[40:80]}, middle...)
}
