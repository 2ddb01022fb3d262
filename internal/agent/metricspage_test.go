package agent

import (
	"log/slog"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/metricsdoc"
)

//go:generate go test . -run TestMetricsPageIsFresh -update

func TestMetricsPageIsFresh(t *testing.T) {
	s := withAddress(testSettings("mizzen-controller.mizzen-system.svc.cluster.local:15010", "10.1.2.3"))
	s.Dir = t.TempDir()
	s.TrustBundle = authoritytest.Bundle(authoritytest.NewRoot(t, "root"))
	r := metricsdoc.NewRecorder()
	a := &agent{settings: s, log: slog.New(slog.DiscardHandler), admin: newAdminClient(s.adminSocket()), metrics: newMetrics(r)}
	if err := a.setUpIdentity(); err != nil {
		t.Fatal(err)
	}
	metricsdoc.Check(t, "../../docs/metrics.md", "sidecar", r)
}
