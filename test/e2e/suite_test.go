package e2e

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// listing makes TestE2E print the scenarios that -run selects, without a cluster. hack/e2e.sh asks it first.
var listing = os.Getenv("MIZZEN_E2E_LIST") != ""

// scenario is one test. Its function gets an env and a name for its namespaces.
type scenario struct {
	name string
	run  func(t *testing.T)
}

// phases in order: each is done before the next begins. Only the first runs its scenarios side by side:
// the others measure, or take the control plane or the node away from everybody. Until GatewayAPI the cluster has no CRDs
// of the Gateway API, from there on it has. Uninstalling comes last.
var phases = []struct {
	name     string
	parallel bool
	of       []scenario
}{
	{"shared", true, []scenario{
		{"Transparency", testTransparency},
		{"CallerAddresses", testCallerAddresses},
		{"Probes", testProbes},
		{"ProbeEvents", testProbeEvents},
		{"ApplyAgain", testApplyAgain},
		{"LifecycleHooks", testLifecycleHooks},
		{"BadAnnotation", testBadAnnotation},
		{"PodLevelOverride", testPodLevelOverride},
		{"NamespaceRules", testNamespaceRules},
		{"NamespaceSettings", testNamespaceSettings},
		{"UnknownAppProtocol", testUnknownAppProtocol},
		{"Copies", testCopies},
		{"OtherAdmission", testOtherAdmission},
		{"Shutdown", testShutdown},
		{"ConfigScope", testConfigScope},
		{"Authorization", testAuthorization},
		{"DryRunProcedure", testDryRunProcedure},
		{"SilentConnections", testSilentConnections},
		{"ForwardedClientCert", testForwardedClientCert},
		{"IdentityCtl", testIdentityCtl},
	}},
	{"programs", false, []scenario{
		{"Programs", testPrograms},
	}},
	{"measured", false, []scenario{
		{"Story", testStory},
		{"Balance", testBalance},
		{"Rollout", testRollout},
		{"Crash", testCrash},
		{"Staleness", testStaleness},
		{"Start", testStart},
		{"Jobs", testJobs},
		{"Footprint", testFootprint},
		{"Kubectl", testKubectl},
	}},
	{"routes", false, []scenario{
		{"GatewayAPI", testGatewayAPI},
		{"RetrySafety", testRetrySafety},
		{"Storm", testStorm},
		{"Timeouts", testTimeouts},
		{"Canary", testCanary},
		{"BadRoutes", testBadRoutes},
		{"RouteKinds", testRouteKinds},
		{"ConnectionRoutes", testConnectionRoutes},
		{"RouteStatuses", testRouteStatuses},
	}},
	{"control-plane", false, []scenario{
		{"HelmTest", testHelmTest},
		{"Upgrade", testUpgrade},
		{"CNI", testCNI},
		{"OnDemand", testOnDemand},
		{"Outage", testOutage},
		{"APIServerOutage", testAPIServerOutage},
	}},
	{"identity", false, []scenario{
		{"Rotation", testRotation},
		{"OwnCA", testOwnCA},
	}},
	{"last", false, []scenario{
		{"GitOps", testGitOps},
		{"Uninstall", testUninstall},
	}},
}

func TestE2E(t *testing.T) {
	if mesh == nil && !listing {
		t.Skip("MIZZEN_E2E is not set")
	}
	selected := 0
	for _, phase := range phases {
		t.Run(phase.name, func(t *testing.T) {
			for _, s := range phase.of {
				t.Run(s.name, func(t *testing.T) {
					selected++
					if listing {
						fmt.Printf("scenario %s/%s\n", phase.name, s.name)
						return
					}
					if phase.parallel {
						t.Parallel()
					}
					start := time.Now()
					defer func() { timings.add(phase.name+"/"+s.name, time.Since(start)) }()
					s.run(t)
				})
			}
		})
	}
	if selected == 0 && !listing {
		t.Error("-run selects no scenario; MIZZEN_E2E_LIST=1 lists all")
	}
}
