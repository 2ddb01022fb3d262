package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/tests"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/yaml"
)

// problems says why a report is not the one we claim: every profile's core and extended tests passed, none
// skipped, every extended feature supported.
func problems(r confv1.ConformanceReport) []string {
	var out []string
	for _, want := range profiles {
		i := slices.IndexFunc(r.ProfileReports, func(p confv1.ProfileReport) bool { return p.Name == string(want.Name) })
		if i < 0 {
			out = append(out, fmt.Sprintf("%s: not in the report", want.Name))
			continue
		}
		p := r.ProfileReports[i]
		out = append(out, unsuccessful(p.Name+" core", p.Core)...)
		if p.Extended == nil {
			// The suite has no extended test of gRPC in a mesh that is not also one of HTTP.
			if want.Name != suite.MeshGRPCConformanceProfileName {
				out = append(out, p.Name+": no extended tests")
			}
			continue
		}
		out = append(out, unsuccessful(p.Name+" extended", p.Extended.Status)...)
		if len(p.Extended.UnsupportedFeatures) > 0 {
			out = append(out, fmt.Sprintf("%s: unsupported features %v", p.Name, p.Extended.UnsupportedFeatures))
		}
		for _, f := range want.ExtendedFeatures.UnsortedList() {
			if !slices.Contains(p.Extended.SupportedFeatures, string(f)) {
				out = append(out, fmt.Sprintf("%s: %s is not among the supported features", p.Name, f))
			}
		}
	}
	slices.Sort(out)
	return out
}

func unsuccessful(what string, s confv1.Status) []string {
	if s.Result == confv1.Success && s.Passed > 0 && s.Skipped == 0 && s.Failed == 0 && len(s.SkippedTests) == 0 && len(s.FailedTests) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: %s, %d passed, %d skipped %v, %d failed %v", what, s.Result, s.Passed, s.Skipped, s.SkippedTests, s.Failed, s.FailedTests)}
}

// summary is the report in some lines.
func summary(r confv1.ConformanceReport, o *outcomes) string {
	lines := []string{fmt.Sprintf("conformance: Gateway API %s, %s channel: %d of %d tests passed", r.GatewayAPIVersion, r.GatewayAPIChannel, o.passed(), len(tests.ConformanceTests))}
	for _, p := range r.ProfileReports {
		line := fmt.Sprintf("conformance: %s: core %s, %d passed, %d skipped, %d failed", p.Name, p.Core.Result, p.Core.Passed, p.Core.Skipped, p.Core.Failed)
		if e := p.Extended; e != nil {
			line += fmt.Sprintf("; extended %s, %d passed, %d skipped, %d failed, %d features", e.Result, e.Passed, e.Skipped, e.Failed, len(e.SupportedFeatures))
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}

// readReport reads a report and puts its profiles, which the suite lists in no order, into one.
func readReport(t *testing.T, path string) confv1.ConformanceReport {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var r confv1.ConformanceReport
	if err := yaml.UnmarshalStrict(data, &r); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	slices.SortFunc(r.ProfileReports, func(a, b confv1.ProfileReport) int { return strings.Compare(a.Name, b.Name) })
	return r
}

// keptReport is where a report is kept, named as the Gateway API project asks for:
// https://github.com/kubernetes-sigs/gateway-api/blob/v1.6.3/conformance/reports/README.md
func keptReport(root string, r confv1.ConformanceReport) string {
	return filepath.Join(root, "docs", "conformance", fmt.Sprintf("%s-%s-%s-report.yaml", r.GatewayAPIChannel, r.Version, r.Mode))
}

// keepOrCompare keeps the report as the suite wrote it, with -update and only if all went well; else it compares it
// with the kept one, but for the date.
func keepOrCompare(t *testing.T, root string, report confv1.ConformanceReport, path string) {
	t.Helper()
	kept := keptReport(root, report)
	if *update {
		if t.Failed() {
			t.Error("the report is not kept")
			return
		}
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(kept, data, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
		return
	}
	want := readReport(t, kept)
	want.Date, report.Date = "", ""
	if diff := cmp.Diff(want, report); diff != "" {
		t.Errorf("the kept report is another one (- kept, + now); -update keeps this one:\n%s", diff)
	}
}
