package issuer_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s", what)
		}
	}
}

func (w *world) poll(c *http.Client, have string) (status int, b api.Bundle, why string) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, fmt.Sprintf("https://%s%s?%s=%s", w.addr, api.BundlePath, api.HaveParameter, have), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	status, answer, why := w.do(c, req)
	if status == http.StatusOK {
		if err := json.Unmarshal(answer, &b); err != nil {
			w.t.Fatal(err)
		}
	}
	return status, b, why
}

func (w *world) debug() authority.Report {
	w.t.Helper()
	rec := httptest.NewRecorder()
	w.Debug().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, issuer.DebugPath, nil))
	var r authority.Report
	if err := json.Unmarshal(rec.Body.Bytes(), &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func TestBundle(t *testing.T) {
	w := start(t, nil)
	c := w.http(w.certificate())
	status, first, why := w.poll(c, "")
	if status != http.StatusOK || first.Version != api.Version(first.Bundle) || strings.Count(first.Bundle, "BEGIN") != 1 {
		t.Fatalf("%d %+v %s", status, first, why)
	}
	if r := w.debug(); r.Bundle != first.Version || r.Have[""] != 1 || len(r.Issuers) != 1 {
		t.Errorf("known of the agents: %+v", r)
	}
	type answer struct {
		status int
		bundle api.Bundle
	}
	answers := make(chan answer, 1)
	go func() {
		status, b, _ := w.poll(c, first.Version)
		answers <- answer{status, b}
	}()
	await(t, "the agent's bundle", func() bool { return w.debug().Have[first.Version] == 1 })
	other := w.replaceCA()
	got := <-answers
	if want := api.Roots(append(mustParse(t, first.Bundle), other.Certificate())...); got.status != http.StatusOK || got.bundle.Bundle != want {
		t.Errorf("%d, not both roots:\n%s", got.status, got.bundle.Bundle)
	}
	if r := w.debug(); r.Have[first.Version] != 1 || r.Bundle != got.bundle.Version {
		t.Errorf("an agent that has not said that it has the bundle counts as one that has: %+v", r)
	}
}

func TestBundleWaitEnds(t *testing.T) {
	w := start(t, func(o *issuer.Options) { o.BundleWait = 50 * time.Millisecond })
	c := w.http(w.certificate())
	_, version, _ := w.ca.Bundle()
	if status, _, why := w.poll(c, version); status != http.StatusNoContent {
		t.Errorf("%d: %s", status, why)
	}
}

func TestBundleWaitEndsWithTheServer(t *testing.T) {
	w := start(t, nil)
	c := w.http(w.certificate())
	_, version, _ := w.ca.Bundle()
	statuses := make(chan int, 1)
	go func() {
		status, _, _ := w.poll(c, version)
		statuses <- status
	}()
	await(t, "the agent waits", func() bool { return w.debug().Have[version] == 1 })
	if err := w.stop(); err != nil {
		t.Error(err)
	}
	if status := <-statuses; status != http.StatusNoContent {
		t.Errorf("%d", status)
	}
}

func TestBundleIsForTheMeshOnly(t *testing.T) {
	w := start(t, nil)
	other, err := ca.Generate(ca.Options{CommonName: "foreign", Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	leaf := ca.Leaf{CommonName: "shop/web-1", SerialNumber: web.UID, URIs: w.certificate().Leaf.URIs, Usages: nil, Now: time.Now(), Lifetime: time.Hour}
	foreign, err := other.Issue(leaf)
	if err != nil {
		t.Fatal(err)
	}
	own, err := w.ca.TLS(false).GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		certs  []tls.Certificate
		have   string
		status int
		want   string
	}{
		"no certificate":         {nil, "", 403, "no client certificate"},
		"of another CA":          {[]tls.Certificate{*foreign}, "", 403, "unknown authority"},
		"of no pod":              {[]tls.Certificate{*own}, "", 403, "names no pod"},
		"a version that is none": {[]tls.Certificate{w.certificate()}, "xyz", 400, "hex"},
		"a long version":         {[]tls.Certificate{w.certificate()}, strings.Repeat("ab", 33), 400, "hex"},
	} {
		t.Run(name, func(t *testing.T) {
			status, _, why := w.poll(w.http(tt.certs...), tt.have)
			if status != tt.status || !strings.Contains(why, tt.want) {
				t.Errorf("%d %q, want %d %q", status, why, tt.status, tt.want)
			}
			if r := w.debug(); len(r.Have) > 0 {
				t.Errorf("it counts as an agent: %+v", r)
			}
		})
	}
}

// An agent that is gone for a while does not hold a rotation up.
func TestAgentsAreForgotten(t *testing.T) {
	later := make(chan time.Duration, 1)
	later <- 0
	w := start(t, func(o *issuer.Options) {
		o.Now = func() time.Time { d := <-later; later <- d; return time.Now().Add(d) }
	})
	if status, _, why := w.poll(w.http(w.certificate()), ""); status != http.StatusOK {
		t.Fatalf("%d: %s", status, why)
	}
	if r := w.debug(); r.Have[""] != 1 {
		t.Errorf("%+v, want an agent", r)
	}
	<-later
	later <- 2*api.BundleWait + time.Second
	if r := w.debug(); len(r.Have) > 0 || len(r.Issuers) > 0 {
		t.Errorf("%+v, want none", r)
	}
}
