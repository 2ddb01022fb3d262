package issuer_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
	"github.com/mizzen-mesh/mizzen/internal/replicas"
)

// peerWorld answers replicas.
func peerWorld(t *testing.T) *world {
	mux := http.NewServeMux()
	w := start(t, func(o *issuer.Options) { o.Peers = mux })
	mux.Handle("GET "+issuer.DebugPath, w.Debug())
	return w
}

func TestReplicasAskOverMTLS(t *testing.T) {
	w := peerWorld(t)
	ask := func(c *tls.Config) ([]authority.Report, int) {
		r := replicas.New(replicas.Options{
			List: func(context.Context) ([]string, error) { return []string{w.addr}, nil }, TLS: c, Log: logr.Discard(),
		})
		return replicas.Ask[authority.Report](t.Context(), r, issuer.DebugPath, nil)
	}
	reports, silent := ask(w.ca.PeerTLS())
	if _, version, _ := w.ca.Bundle(); silent != 0 || len(reports) != 1 || reports[0].Bundle != version {
		t.Errorf("%+v, %d silent", reports, silent)
	}
	// A server that is none of theirs is told nothing and believed nothing.
	foreign := peerWorld(t)
	if reports, silent := ask(foreign.ca.PeerTLS()); silent != 1 || len(reports) > 0 {
		t.Errorf("a server of another mesh: %+v", reports)
	}
}

func TestPeerPathsAreForReplicasOnly(t *testing.T) {
	w := peerWorld(t)
	foreign, err := ca.Generate(ca.Options{CommonName: "foreign", Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	own, err := w.ca.TLS(false).GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := foreign.Issue(ca.Leaf{CommonName: "x", URIs: own.Leaf.URIs, Usages: own.Leaf.ExtKeyUsage, Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		certs  []tls.Certificate
		status int
		want   string
	}{
		"nobody":             {nil, 403, "no client certificate"},
		"a pod of the mesh":  {[]tls.Certificate{w.certificate()}, 403, "want one of the control plane"},
		"its name, forged":   {[]tls.Certificate{*forged}, 403, "unknown authority"},
		"a replica (itself)": {[]tls.Certificate{*own}, 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before := w.total("certificate")
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("https://%s%s", w.addr, issuer.DebugPath), nil)
			if err != nil {
				t.Fatal(err)
			}
			status, _, why := w.do(w.http(tt.certs...), req)
			if status != tt.status || !strings.Contains(why, tt.want) {
				t.Errorf("%d %q, want %d %q", status, why, tt.status, tt.want)
			}
			if counted := w.total("certificate") - before; (counted == 1) != (tt.status == 403) {
				t.Errorf("%v counted", counted)
			}
		})
	}
}

// A replica's connection is kept while its certificate is good for a while; one that is about to expire would be
// refused at the next question.
func TestPeerConnectionEndsBeforeItsCertificate(t *testing.T) {
	w := peerWorld(t)
	own, err := w.ca.TLS(false).GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	var secret corev1.Secret
	if err := w.client.Get(t.Context(), types.NamespacedName{Namespace: "mizzen-system", Name: "mizzen-ca"}, &secret); err != nil {
		t.Fatal(err)
	}
	signer, err := ca.Load(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		t.Fatal(err)
	}
	for life, closed := range map[time.Duration]bool{time.Hour: false, time.Minute: true} {
		cert, err := signer.Issue(ca.Leaf{CommonName: "x", URIs: own.Leaf.URIs, Usages: own.Leaf.ExtKeyUsage, Now: time.Now(), Lifetime: life})
		if err != nil {
			t.Fatal(err)
		}
		res, err := w.http(*cert).Get(fmt.Sprintf("https://%s%s", w.addr, issuer.DebugPath))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK || res.Close != closed {
			t.Errorf("%s left: status %d, connection closed %t, want %t", life, res.StatusCode, res.Close, closed)
		}
	}
}
