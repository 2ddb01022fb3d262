package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Each test says in its first line what it needs of the cluster: alone(t), beside(t) or besideRotation(t). Nothing else of
// the order of tests matters: what is installed is brought about before each.

// listing makes the tests print their names instead, without a cluster. hack/e2e.sh asks first.
var listing = os.Getenv("MIZZEN_E2E_LIST") != ""

// alone is for a test that measures, or takes the control plane or the node away from everybody. The chart is installed with
// these values and no others.
func alone(t *testing.T, values ...string) {
	t.Helper()
	begin(t)
	if err := ended(t.Context()); err != nil {
		t.Log(err) // it is not this test's fault
	}
	if err := release.want(t.Context(), values); err != nil {
		t.Fatal(err)
	}
	timed(t)
}

// ended waits until the pods of earlier tests are gone, for a minute at most: their end takes the CPU that a test counts on.
func ended(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	namespaces, err := mesh.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: runLabel})
	if err != nil {
		return err
	}
	for _, ns := range namespaces.Items {
		if err := mesh.WaitNoPods(ctx, ns.Name, "", time.Minute); err != nil {
			return fmt.Errorf("an earlier test, namespace %s: %w", ns.Name, err)
		}
	}
	return nil
}

// beside is for a test that runs beside others that say so, after those that run alone, and after TestRotation.
func beside(t *testing.T) {
	t.Helper()
	together(t, rotationOver.Done())
}

// besideRotation is for a test that must hold as well while TestRotation, if it is selected, replaces the mesh's root.
func besideRotation(t *testing.T) {
	t.Helper()
	together(t, rotationBegun.Done())
}

func together(t *testing.T, from <-chan struct{}) {
	t.Helper()
	begin(t)
	t.Parallel()
	if err := installedForAll(); err != nil {
		t.Fatal(err)
	}
	if rotates() {
		<-from
	}
	room <- struct{}{}
	t.Cleanup(func() { <-room })
	timed(t)
}

// rotating is for TestRotation. It calls beginRotation when the root is being replaced.
func rotating(t *testing.T) {
	t.Helper()
	begin(t)
	t.Parallel()
	t.Cleanup(func() {
		beginRotation()
		endRotation()
	})
	if err := installedForAll(); err != nil {
		t.Fatal(err)
	}
	timed(t)
}

// room is for the tests that run side by side on two cores.
var room = make(chan struct{}, 2)

// rotationBegun is done when TestRotation has begun to replace the root or has failed, and rotationOver when it is over.
var (
	rotationBegun, beginRotation = context.WithCancel(context.Background())
	rotationOver, endRotation    = context.WithCancel(context.Background())
)

// rotates reports whether -run selects TestRotation.
func rotates() bool {
	top, _, _ := strings.Cut(flag.Lookup("test.run").Value.String(), "/")
	selected, err := regexp.MatchString(top, "TestRotation")
	return err == nil && selected
}

// installedForAll installs what the tests that run side by side need.
var installedForAll = sync.OnceValue(func() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	if err := ended(ctx); err != nil {
		fmt.Println("e2e:", err)
	}
	if rotates() {
		return release.want(ctx, shortLives)
	}
	return release.want(ctx, nil)
})

// begin ends the test where there is no cluster.
func begin(t *testing.T) {
	t.Helper()
	if listing {
		fmt.Printf("scenario %s\n", strings.TrimPrefix(t.Name(), "Test"))
		t.SkipNow()
	}
	if mesh == nil {
		t.Skip("MIZZEN_E2E is not set")
	}
}

// timed notes how long the test takes, from here on.
func timed(t *testing.T) {
	start := time.Now()
	t.Cleanup(func() { timings.add(t.Name(), time.Since(start)) })
}

// release is the installation of the chart.
var release installation

// installation knows with which values the chart is installed, so that a test that needs others brings them about.
type installation struct {
	known  bool
	values []string
}

// want installs the chart with these values, unless it is known to be.
func (i *installation) want(ctx context.Context, values []string) error {
	if withoutMesh || i.known && slices.Equal(i.values, values) {
		return nil
	}
	return i.install(ctx, values)
}

func (i *installation) install(ctx context.Context, values []string) error {
	i.known = false
	start := time.Now()
	if err := mesh.InstallMizzen(ctx, values...); err != nil {
		return err
	}
	timings.add(fmt.Sprintf("  helm upgrade --install %v", values), time.Since(start))
	i.known, i.values = true, slices.Clone(values)
	return nil
}

// install installs the chart with these values and no others. The next test that needs others brings them about.
func (e *env) install(values ...string) {
	e.Helper()
	e.must(release.install(e.ctx, values))
}

// uninstall removes the chart, until the next test that needs it.
func (e *env) uninstall() {
	e.Helper()
	release.known = false
	e.must(e.UninstallMizzen(e.ctx))
}
