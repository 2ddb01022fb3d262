package main

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// A gateway gets its identity and its configuration as a sidecar does, and goes on for the drain delay.
func TestGateway(t *testing.T) {
	const delay = 2 * time.Second
	authority := authoritytest.Start(t, time.Hour)
	s := startSidecar(t, []string{contract.TrustBundleEnv + "=" + authoritytest.Bundle(authority.State().Roots...)},
		"--gateway", "--drain-delay="+delay.String(), "--concurrency=1",
		"--control-plane="+controlPlane(t, authority), "--identity-address="+authority.Addr, "--token-file="+tokenFile(t))
	if err := waitReady(t.Context(), s.url("/startupz"), io.Discard); err != nil {
		t.Fatal(err)
	}
	ready := func() int {
		res, err := http.Get(s.url("/readyz"))
		if err != nil {
			return 0
		}
		res.Body.Close()
		return res.StatusCode
	}
	if status := ready(); status != http.StatusOK {
		t.Fatalf("/readyz: %d, want 200", status)
	}
	begin := time.Now()
	ended := make(chan time.Duration)
	go func() {
		s.stop()
		ended <- time.Since(begin)
	}()
	for ready() != http.StatusServiceUnavailable {
		if time.Since(begin) > delay {
			t.Fatal("/readyz does not fail")
		}
	}
	if took := <-ended; took < delay || took > delay+5*time.Second {
		t.Errorf("it ended after %v, want %v and what it takes to drain nothing", took, delay)
	}
}
