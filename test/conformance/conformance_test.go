package conformance

import (
	"context"
	"embed"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayapi "sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

var update = flag.Bool("update", false, "keep the report in docs/conformance")

// implementation is what the report says of Mizzen. The version is that of the images under test.
var implementation = confv1.Implementation{
	Organization: "mizzen-mesh", Project: "mizzen", Version: "dev",
	URL:     "https://github.com/mizzen-mesh/mizzen",
	Contact: []string{"https://github.com/mizzen-mesh/mizzen/issues/new"},
}

//go:embed testdata
var own embed.FS

// gatewayClass is the one that the chart installs.
const gatewayClass = "mizzen"

// profiles are all that the suite has.
var profiles = []suite.ConformanceProfile{
	suite.GatewayHTTPConformanceProfile, suite.GatewayGRPCConformanceProfile, suite.GatewayTLSConformanceProfile,
	suite.GatewayTCPConformanceProfile, suite.GatewayUDPConformanceProfile,
	suite.MeshHTTPConformanceProfile, suite.MeshGRPCConformanceProfile,
}

// TestConformance runs the tests of gateways and of a mesh at once. So the backends of the gateways are in the mesh, too.
func TestConformance(t *testing.T) {
	if os.Getenv("MIZZEN_CONFORMANCE") == "" {
		t.Skip("MIZZEN_CONFORMANCE=1 runs it on $KUBECONFIG or the embedded cluster")
	}
	c, err := cluster.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", c.Kubeconfig) // the suite makes clients of its own
	setUp(t, c)

	ran := newOutcomes()
	opts := gatewayapi.DefaultOptions(t)
	opts.GatewayClassName = gatewayClass
	for _, p := range profiles {
		opts.ConformanceProfiles = append(opts.ConformanceProfiles, p.Name)
	}
	opts.SupportedFeatures = claimed().UnsortedList()
	if opts.RunTest != "" {
		// Each of the two needs a minute for its pods, and the profiles would bring it back.
		opts.SupportedFeatures = claimed().Difference(unneeded(t, opts.RunTest)).UnsortedList()
		opts.ConformanceProfiles = nil
	}
	if len(opts.UsableNetworkAddresses) == 0 {
		opts.UsableNetworkAddresses = []gatewayv1.GatewaySpecAddress{ipAddress(usableAddress(t, c))}
	}
	opts.UnusableNetworkAddresses = []gatewayv1.GatewaySpecAddress{ipAddress(unusableAddress)}
	opts.NamespaceLabels = map[string]string{config.LabelInjection: "enabled", suiteNamespaces: ""}
	opts.Implementation = implementation
	opts.ReportOutputPath = filepath.Join(t.TempDir(), "report.yaml")
	opts.RestConfig.QPS = -1
	opts.Hook = ran.record
	opts.CleanupBaseResources = false // the end of this test removes them
	passed := t.Run("suite", func(t *testing.T) { gatewayapi.RunConformanceWithOptions(t, opts) })
	if !passed || restarted(t, c) {
		logControlPlane(t, c)
	}
	if opts.RunTest != "" {
		return
	}
	t.Run("beyond", func(t *testing.T) {
		testBeyond(t, &suite.ConformanceTestSuite{
			Client: opts.Client, Clientset: opts.Clientset, RestConfig: opts.RestConfig, TimeoutConfig: opts.TimeoutConfig,
			Applier: kubernetes.Applier{ManifestFS: []fs.FS{gatewayapi.Manifests, own}},
		})
	})
	for _, problem := range ran.problems() {
		t.Error(problem)
	}
	report := readReport(t, opts.ReportOutputPath)
	t.Log(summary(report, ran))
	for _, problem := range problems(report) {
		t.Error(problem)
	}
	keepOrCompare(t, c.Root, report, opts.ReportOutputPath)
}

// meshTests are the suite's tests of a mesh; the others need a Gateway.
func meshTests() []suite.ConformanceTest {
	var mesh []suite.ConformanceTest
	for _, test := range tests.ConformanceTests {
		if slices.Contains(test.Features, features.SupportMesh) {
			mesh = append(mesh, test)
		}
	}
	return mesh
}

// claimed is what Mizzen claims: every feature that there is. Some are in no profile, or not in all that have tests of
// them; a test that needs one is skipped without a trace in the report unless it is declared.
func claimed() sets.Set[features.FeatureName] { return features.SetsToNamesSet(features.AllFeatures) }

// unneeded is the feature, of gateways or of meshes, for which the suite would make objects that the test does not use.
func unneeded(t *testing.T, name string) sets.Set[features.FeatureName] {
	t.Helper()
	i := slices.IndexFunc(tests.ConformanceTests, func(test suite.ConformanceTest) bool { return test.ShortName == name })
	if i < 0 {
		t.Fatalf("-run-test %s: the suite has no such test", name)
	}
	return sets.New[features.FeatureName](features.SupportGateway, features.SupportMesh).Difference(sets.New(tests.ConformanceTests[i].Features...))
}

func ipAddress(a string) gatewayv1.GatewaySpecAddress {
	return gatewayv1.GatewaySpecAddress{Type: new(gatewayv1.IPAddressType), Value: a}
}

// restarted fails the test if a controller has ended and come back.
func restarted(t *testing.T, c *cluster.Cluster) (restarted bool) {
	t.Helper()
	pods, err := c.Pods(context.Background(), cluster.SystemNamespace, "")
	if err != nil {
		t.Error(err)
	}
	for _, p := range pods {
		for _, s := range p.Status.ContainerStatuses {
			if s.RestartCount > 0 {
				t.Errorf("%s, container %s: %d restarts", p.Name, s.Name, s.RestartCount)
				restarted = true
			}
		}
	}
	return restarted
}

// logControlPlane shows what the controllers last said, and what those said that have ended.
func logControlPlane(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx := context.Background()
	pods, err := c.Pods(ctx, cluster.SystemNamespace, "")
	if err != nil {
		t.Log(err)
	}
	for _, p := range pods {
		for _, previous := range []bool{true, false} {
			if previous && len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].RestartCount == 0 {
				continue
			}
			lines := int64(40)
			out, err := c.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: &lines, Previous: previous}).DoRaw(ctx)
			t.Logf("%s, ended %t: %s\n%s", p.Name, previous, cluster.PodState(&p), out)
			if err != nil {
				t.Log(err)
			}
		}
	}
}
