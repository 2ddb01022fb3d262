package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/version"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// stage is one step of an upgrade or a downgrade.
type stage struct {
	name string
	// chart is what the release becomes, with sidecars of the other chart's version if otherSidecars is set.
	chart         string
	otherSidecars bool
}

// From the release before to this one and back, strict and under load: control planes first, and sidecars first. Sidecars of either
// version are served by control planes of either version, call each other, and no call fails.
func TestUpgradeFromPrevious(t *testing.T) {
	alone(t)
	if withoutMesh {
		t.Skip("the chart is the mesh's")
	}
	if !mesh.HasPrevious() {
		t.Skip("the images of the release before are not loaded: .build/tools/cluster previous")
	}
	tags := map[string]string{cluster.Chart: version.Version, cluster.PreviousChart: "previous"} // of images: the appVersion of the chart
	e := newEnv(t, true)
	e.installChart(cluster.PreviousChart, tags[cluster.PreviousChart])
	e.annotate(config.AnnotationMTLSPorts, fmt.Sprintf("%d=strict,%d=strict", httpPort, grpcPort)) // the control port is open to the test
	e.server("server", 3)
	client := e.client()
	e.ready("server")
	e.reachable(client, grpcCall, httpCall)
	running := e.loads(client)
	for i, s := range []stage{
		{"up, control plane first", cluster.Chart, false},
		{"down, control plane first", cluster.PreviousChart, false},
		{"up, sidecars first", cluster.PreviousChart, true},
		{"up, then the control plane", cluster.Chart, false},
		{"down, sidecars first", cluster.Chart, true},
		{"down, then the control plane", cluster.PreviousChart, false},
	} {
		if i == 5 { // a control plane that knows no revisions refuses the label, and leaves one that is there
			e.revise(revisionName)
		}
		start := time.Now()
		sidecars := tags[s.chart]
		if s.otherSidecars {
			sidecars = tags[map[string]string{cluster.Chart: cluster.PreviousChart, cluster.PreviousChart: cluster.Chart}[s.chart]]
		}
		e.installChart(s.chart, sidecars)
		e.must(e.Restart(e.ctx, e.ns, "server"))
		e.ready("server")
		e.noTerminating("app=server")
		e.newcomer(fmt.Sprintf("newcomer-%d", i))
		timings.add("  "+s.name, time.Since(start))
	}
	// A control plane of this version beside one of the version before, which knows no revisions.
	e.installRevision(cluster.Chart)
	e.restartServers(revisionName)
	e.servedBy(revisionName)
	for _, l := range running {
		l.noFailures("calls during upgrades and downgrades, in both orders, and with a revision")
	}
}

// installChart brings about a release, with the sidecars of any version.
func (e *env) installChart(chart, sidecars string) {
	e.Helper()
	release.known = false
	e.must(e.InstallChart(e.ctx, cluster.Release, chart, "proxy.image.tag="+sidecars))
}

// newcomer makes a pod, which calls.
func (e *env) newcomer(name string) {
	e.Helper()
	p := cluster.Pod{Namespace: e.ns, Name: name}
	e.create(e.pod(p.Name, serverPod("server")))
	e.must(e.WaitPodReady(e.ctx, p, readyTimeout))
	e.hasSidecar(p)
	for _, l := range e.loads(p) {
		e.eventually(30*time.Second, func() (string, error) {
			if n := l.result().Calls; n < 100 {
				return fmt.Sprintf("%d of 100 calls of the newcomer", n), nil
			}
			return "", nil
		})
		l.noFailures("calls of a pod that was made after")
	}
}
