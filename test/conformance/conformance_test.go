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

var profiles = []suite.ConformanceProfileName{suite.MeshHTTPConformanceProfileName, suite.MeshGRPCConformanceProfileName}

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
	opts.GatewayClassName = ""
	opts.ConformanceProfiles = profiles
	opts.SupportedFeatures = meshFeatures().UnsortedList()
	opts.NamespaceLabels = map[string]string{config.LabelInjection: "enabled"}
	opts.Implementation = implementation
	opts.ReportOutputPath = filepath.Join(t.TempDir(), "report.yaml")
	opts.RestConfig.QPS = -1
	opts.Hook = ran.record
	opts.CleanupBaseResources = false // the end of this test removes them
	passed := t.Run("suite", func(t *testing.T) { gatewayapi.RunConformanceWithOptions(t, opts) })
	if !passed {
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

// meshFeatures is what Mizzen claims: every feature of a mesh, and every other one that a test of a mesh needs.
// The latter are features of HTTPRoute that no mesh profile lists; a test that needs one is skipped without a
// trace in the report unless it is declared.
func meshFeatures() sets.Set[features.FeatureName] {
	all := features.SetsToNamesSet(features.MeshCoreFeatures, features.MeshExtendedFeatures)
	for _, test := range meshTests() {
		all.Insert(test.Features...)
	}
	return all
}

// logControlPlane shows what the controllers last said.
func logControlPlane(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	ctx := context.Background()
	pods, err := c.Pods(ctx, cluster.SystemNamespace, "")
	if err != nil {
		t.Log(err)
	}
	for _, p := range pods {
		lines := int64(40)
		out, err := c.CoreV1().Pods(p.Namespace).GetLogs(p.Name, &corev1.PodLogOptions{TailLines: &lines}).DoRaw(ctx)
		t.Logf("%s: %s\n%s", p.Name, cluster.PodState(&p), out)
		if err != nil {
			t.Log(err)
		}
	}
}
