// Package e2e tests Mizzen on a real cluster: real injection, real Envoys, the real chart.
//
//	MIZZEN_E2E=1 go test ./test/e2e -timeout 60m              everything
//	MIZZEN_E2E=1 go test ./test/e2e -run '^TestProbes$' -v    one test
//	MIZZEN_E2E_LIST=1 go test ./test/e2e -run Probe -v        the names of the selected tests, without a cluster
//
// The cluster is $KUBECONFIG's, else the embedded one's. The tests install the chart, take the control plane
// away and uninstall it, so one run at a time owns the cluster's Mizzen.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// mesh is the cluster under test; nil without MIZZEN_E2E.
var mesh *cluster.Cluster

// withoutMesh is the control experiment: the same tests on bare Kubernetes. What passes there says nothing about
// Mizzen; what fails there although it has nothing to do with a mesh is a fault of the test.
var withoutMesh = os.Getenv("MIZZEN_E2E_WITHOUT_MESH") != ""

func TestMain(m *testing.M) {
	if listing {
		os.Exit(m.Run())
	}
	if os.Getenv("MIZZEN_E2E") == "" {
		fmt.Println("e2e: skipped; MIZZEN_E2E=1 runs it on $KUBECONFIG or the embedded cluster")
		os.Exit(m.Run())
	}
	flag.Parse()
	if err := setUp(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	// All that run side by side begin at once, for they wait for TestRotation; beside has the bound for the rest.
	if err := flag.Set("test.parallel", "100"); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := tearDown(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: tear down:", err)
		code = 1
	}
	fmt.Print(figuresSeen.table(), timings.table())
	os.Exit(code)
}

// setUp leaves a cluster with the chart of this checkout and nothing of an earlier run.
func setUp() error {
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	c, err := cluster.Open()
	if err != nil {
		return err
	}
	mesh = c
	for _, s := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"set up: API server", func(ctx context.Context) error { return c.WaitAPI(ctx, time.Minute) }},
		{"set up: leftovers of earlier runs", sweep},
		{"set up: no CRDs of the Gateway API", c.RemoveGatewayAPI},
		{"set up: the chart", func(ctx context.Context) error { return release.want(ctx, nil) }},
	} {
		start := time.Now()
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("%s: %w\n%s", s.name, err, controlPlaneDump(context.Background()))
		}
		timings.add(s.name, time.Since(start))
	}
	return nil
}

// tearDown takes away what the namespaces of the tests do not hold.
func tearDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	return mesh.RemoveGatewayAPI(ctx)
}
