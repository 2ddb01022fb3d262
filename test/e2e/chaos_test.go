package e2e

import (
	"cmp"
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/chaos"
)

// Faults in the order of a seed, under calls of every kind: no call fails beyond those that a fault excuses, and what else
// docs/reliability.md promises holds. `make soak` is the same for longer and with more faults. MIZZEN_CHAOS_SEED is another order.
func TestChaos(t *testing.T) {
	alone(t)
	if withoutMesh {
		t.Skip("what is promised is the mesh's")
	}
	foreign, err := mesh.ForeignGatewayAPI(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if foreign {
		t.Skip("the cluster has CRDs of the Gateway API that are not ours")
	}
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("MIZZEN_CHAOS_SEED"), "1"), 10, 64)
	if err != nil {
		t.Fatalf("MIZZEN_CHAOS_SEED: %v", err)
	}
	report, err := chaos.Run(t.Context(), mesh, chaos.Options{
		Seed: seed, Duration: time.Minute, Rate: 10, Quick: true, Log: t.Logf, Labels: map[string]string{runLabel: "true"},
		Violated: func(ctx context.Context, namespace string) {
			ctx, cancel := context.WithTimeout(ctx, dumpTimeout)
			defer cancel()
			t.Log(dump(ctx, namespace))
		},
	})
	if err != nil {
		t.Error(err)
	}
	if report == nil {
		return
	}
	report.Figures(func(what, got, want string) { figure(t, "chaos: "+what, got, want) })
	for _, v := range report.Violations() {
		t.Error(v)
	}
	if t.Failed() {
		t.Log(report)
	}
}
