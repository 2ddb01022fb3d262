package conformance

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	gatewayapi "sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/features"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// A green report must be one, and anything less be told.
func TestProblems(t *testing.T) {
	var all []string
	for _, f := range features.MeshExtendedFeatures.UnsortedList() {
		all = append(all, string(f.Name))
	}
	good := func() confv1.ConformanceReport {
		status := confv1.Status{Result: confv1.Success, Statistics: confv1.Statistics{Passed: 3}}
		return confv1.ConformanceReport{ProfileReports: []confv1.ProfileReport{
			{Name: "MESH-GRPC", Core: status},
			{Name: "MESH-HTTP", Core: status, Extended: &confv1.ExtendedStatus{Status: status, SupportedFeatures: all}},
		}}
	}
	for _, tc := range []struct {
		name   string
		change func(grpc, http *confv1.ProfileReport)
		want   string // part of the only problem
	}{
		{"good", func(_, _ *confv1.ProfileReport) {}, ""},
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
			tc.change(&r.ProfileReports[0], &r.ProfileReports[1])
			got := problems(r)
			if tc.want == "" && len(got) > 0 || tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
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

// The cluster gets the image that the suite asks for: else its pods would only fail to start after minutes.
func TestImage(t *testing.T) {
	root, err := cluster.Root()
	if err != nil {
		t.Fatal(err)
	}
	built, err := os.ReadFile(filepath.Join(root, "hack/internal/tools/echo.go"))
	if err != nil {
		t.Fatal(err)
	}
	manifests := []string{"mesh/manifests.yaml"}
	for _, test := range meshTests() {
		manifests = append(manifests, test.Manifests...)
	}
	found := 0
	for _, name := range manifests {
		data, err := fs.ReadFile(gatewayapi.Manifests, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`image: *(\S+)`).FindAllStringSubmatch(string(data), -1) {
			found++
			if !strings.Contains(string(built), `"`+m[1]+`"`) {
				t.Errorf("%s asks for %s, which hack/internal/tools/echo.go does not build", name, m[1])
			}
		}
	}
	if found == 0 {
		t.Error("no image in the suite's mesh manifests")
	}
}
