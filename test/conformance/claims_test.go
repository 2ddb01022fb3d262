package conformance

import (
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gatewayapi "sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// A green report must be one, and anything less be told.
func TestProblems(t *testing.T) {
	good := func() confv1.ConformanceReport {
		var r confv1.ConformanceReport
		status := confv1.Status{Result: confv1.Success, Statistics: confv1.Statistics{Passed: 3}}
		for _, p := range profiles {
			report := confv1.ProfileReport{Name: string(p.Name), Core: status, Extended: &confv1.ExtendedStatus{Status: status}}
			for f := range p.ExtendedFeatures {
				report.Extended.SupportedFeatures = append(report.Extended.SupportedFeatures, string(f))
			}
			slices.Sort(report.Extended.SupportedFeatures)
			r.ProfileReports = append(r.ProfileReports, report)
		}
		return r
	}
	all := good().ProfileReports[profileIndex(suite.MeshHTTPConformanceProfileName)].Extended.SupportedFeatures
	for _, tc := range []struct {
		name   string
		change func(grpc, http *confv1.ProfileReport)
		want   string // part of the only problem
	}{
		{"good", func(_, _ *confv1.ProfileReport) {}, ""},
		{"gRPC in a mesh has no extended tests", func(grpc, _ *confv1.ProfileReport) { grpc.Extended = nil }, ""},
		{"a profile is missing", func(grpc, _ *confv1.ProfileReport) { grpc.Name = "GATEWAY-GRPC" }, "MESH-GRPC: not in the report"},
		{"core test failed", func(grpc, _ *confv1.ProfileReport) {
			grpc.Core.Result, grpc.Core.Failed, grpc.Core.FailedTests = confv1.Failure, 1, []string{"X"}
		}, "MESH-GRPC core: failure, 3 passed, 0 skipped [], 1 failed [X]"},
		{"core test skipped", func(_, http *confv1.ProfileReport) { http.Core.Result, http.Core.Skipped = confv1.Partial, 1 }, "MESH-HTTP core: partial"},
		{"nothing ran", func(_, http *confv1.ProfileReport) { http.Core.Passed = 0 }, "0 passed"},
		{"extended test skipped", func(_, http *confv1.ProfileReport) { http.Extended.SkippedTests = []string{"Y"} }, "MESH-HTTP extended: success, 3 passed, 0 skipped [Y]"},
		{"no extended tests", func(_, http *confv1.ProfileReport) { http.Extended = nil }, "no extended tests"},
		{"a feature is unsupported", func(_, http *confv1.ProfileReport) { http.Extended.UnsupportedFeatures = all[:1] }, "unsupported features [" + all[0]},
		{"a feature is not claimed", func(_, http *confv1.ProfileReport) { http.Extended.SupportedFeatures = all[1:] }, all[0] + " is not among"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := good()
			grpc, http := profileIndex(suite.MeshGRPCConformanceProfileName), profileIndex(suite.MeshHTTPConformanceProfileName)
			tc.change(&r.ProfileReports[grpc], &r.ProfileReports[http])
			got := problems(r)
			if tc.want == "" && len(got) > 0 || tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func profileIndex(name suite.ConformanceProfileName) int {
	return slices.IndexFunc(profiles, func(p suite.ConformanceProfile) bool { return p.Name == name })
}

// Every test of the suite runs with what is claimed, and every profile is claimed as a whole.
func TestClaims(t *testing.T) {
	for _, test := range tests.ConformanceTests {
		if !claimed().HasAll(test.Features...) {
			t.Errorf("%s needs %v, of which something is not claimed", test.ShortName, test.Features)
		}
	}
	for _, p := range profiles {
		if !claimed().IsSuperset(p.CoreFeatures.Union(p.ExtendedFeatures)) {
			t.Errorf("%s has a feature that is not claimed", p.Name)
		}
	}
	for _, test := range []struct {
		name string
		want features.FeatureName
	}{{"MeshPorts", features.SupportGateway}, {"UDPRoute", features.SupportMesh}} {
		if got := unneeded(t, test.name).UnsortedList(); !slices.Equal(got, []features.FeatureName{test.want}) {
			t.Errorf("%s: %v is not needed, want %s", test.name, got, test.want)
		}
	}
}

// The kept report is held to the same, also where no cluster is at hand.
func TestKeptReport(t *testing.T) {
	if *update {
		t.Skip("the report is being made anew")
	}
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	reports, err := filepath.Glob(filepath.Join(root, "docs/conformance/*-report.yaml"))
	if err != nil || len(reports) == 0 {
		t.Fatal("no report in docs/conformance", err)
	}
	readme, err := os.ReadFile(filepath.Join(root, "docs/conformance/README.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range reports {
		r := readReport(t, path)
		for _, problem := range problems(r) {
			t.Errorf("%s: %s", path, problem)
		}
		if want := keptReport(root, r); path != want {
			t.Errorf("%s: should be named %s", path, want)
		}
		if err := r.Validate(); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if !strings.Contains(string(readme), "(./"+filepath.Base(path)+")") {
			t.Errorf("docs/conformance/README.md has no link to %s", filepath.Base(path))
		}
	}
}

// The cluster gets the images that the suite asks for: else its pods would only fail to start after minutes.
func TestImages(t *testing.T) {
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	built, err := os.ReadFile(filepath.Join(root, "hack/internal/tools/conformance.go"))
	if err != nil {
		t.Fatal(err)
	}
	manifests := []string{"base/manifests.yaml", "mesh/manifests.yaml"}
	for _, test := range tests.ConformanceTests {
		manifests = append(manifests, test.Manifests...)
	}
	asked := map[string]bool{}
	for _, name := range manifests {
		data, err := fs.ReadFile(gatewayapi.Manifests, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`image: *(\S+)`).FindAllStringSubmatch(string(data), -1) {
			asked[m[1]] = true
			if !strings.Contains(string(built), `"`+m[1]+`"`) {
				t.Errorf("%s asks for %s, which hack/internal/tools/conformance.go does not build", name, m[1])
			}
		}
	}
	if len(asked) != 5 {
		t.Errorf("the suite's manifests ask for the images %v; there were 5", slices.Sorted(maps.Keys(asked)))
	}
}

func TestHighestHost(t *testing.T) {
	for prefix, want := range map[string]string{
		"10.131.192.0/24": "10.131.192.254", "192.0.2.8/29": "192.0.2.14", "10.0.0.0/8": "10.255.255.254",
	} {
		if got := highestHost(netip.MustParsePrefix(prefix)).String(); got != want {
			t.Errorf("%s: got %s, want %s", prefix, got, want)
		}
	}
}
