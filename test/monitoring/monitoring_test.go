// Package monitoring tests what the chart has for Prometheus and Grafana on a real Prometheus: it reads the rules, and each query of rules
// and dashboards finds data in the metrics that docs/metrics.md lists. Those lists are written from the programs' own collectors.
package monitoring

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

const (
	monitoringDir = "../../charts/mizzen/monitoring"
	rulesFile     = monitoringDir + "/rules.yaml"
)

// program finds prometheus or promtool in .build/tools, or in $MIZZEN_PROMETHEUS. Without it the test is skipped, but never in CI.
func program(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("MIZZEN_PROMETHEUS")
	must := dir != "" || os.Getenv("CI") == "true"
	if dir == "" {
		dir = "../../.build/tools"
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if must {
			t.Fatalf("%v; .build/tools/cluster test-tools brings it", err)
		}
		t.Skipf("%v; .build/tools/cluster test-tools brings it", err)
	}
	return path
}

func TestRulesAreRight(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), program(t, "promtool"), "check", "rules", "--lint=all", "--lint-fatal", rulesFile).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// Each alert fires when it should, and is silent when all is well.
func TestAlerts(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), program(t, "promtool"), "test", "rules", "testdata/alerts.yaml").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	tested, err := os.ReadFile("testdata/alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules(t) {
		if r.Alert != "" && len(regexp.MustCompile("alertname: "+r.Alert+`\b`).FindAll(tested, -1)) < 2 {
			t.Errorf("testdata/alerts.yaml does not have %s both firing and silent", r.Alert)
		}
	}
}

type rule struct{ Record, Alert, Expr string }

func rules(t *testing.T) []rule {
	t.Helper()
	text, err := os.ReadFile(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Groups []struct{ Rules []rule }
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var out []rule
	for _, g := range file.Groups {
		out = append(out, g.Rules...)
	}
	if len(out) == 0 {
		t.Fatal("no rules")
	}
	return out
}

// metric is a row of docs/metrics.md.
var metric = regexp.MustCompile("(?m)^\\| `(mizzen_[a-z0-9_]+)` \\| (counter|gauge|histogram) \\| (.*?) \\| ")

// values of labels that queries select by; others have one of their own.
var values = map[string][]string{
	"http_response_status_code": {"200", "503"},
	"rpc_response_status_code":  {"NOT_FOUND", "UNAVAILABLE"},
	"side":                      {"outbound"},
	"result":                    {"injected", "error"},
}

// exposition is what all parts of a mesh would say, at the nth scrape.
func exposition(page string, n int64) string {
	var out strings.Builder
	for _, m := range metric.FindAllStringSubmatch(page, -1) {
		name, kind := m[1], m[2]
		fmt.Fprintf(&out, "# TYPE %s %s\n", name, kind)
		for _, labels := range combinations(regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(m[3], -1)) {
			if kind != "histogram" {
				fmt.Fprintf(&out, "%s{%s} %d\n", name, strings.Join(labels, ","), n)
				continue
			}
			for _, le := range []string{"0.1", "1", "+Inf"} {
				fmt.Fprintf(&out, "%s_bucket{%s} %d\n", name, strings.Join(append(labels, `le="`+le+`"`), ","), n)
			}
			fmt.Fprintf(&out, "%s_sum{%s} %d\n%s_count{%s} %d\n", name, strings.Join(labels, ","), n, name, strings.Join(labels, ","), n)
		}
	}
	return out.String()
}

// combinations of the values of labels.
func combinations(labels [][]string) [][]string {
	out := [][]string{nil}
	for _, l := range labels {
		of := values[l[1]]
		if of == nil {
			of = []string{"some-" + l[1]}
		}
		var next [][]string
		for _, before := range out {
			for _, v := range of {
				next = append(next, append(before[:len(before):len(before)], fmt.Sprintf("%s=%q", l[1], v)))
			}
		}
		out = next
	}
	return out
}

// prometheus starts one that scrapes a mesh, and returns its URL when it has scraped twice.
func prometheus(t *testing.T) string {
	t.Helper()
	path := program(t, "prometheus")
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var scrapes atomic.Int64
	mesh := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(w, exposition(string(page), scrapes.Add(1)))
	}))
	t.Cleanup(mesh.Close)
	dir := t.TempDir()
	file, err := filepath.Abs(rulesFile)
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [%q]\nscrape_configs: [{job_name: mesh, static_configs: [{targets: [%q], labels: {namespace: shop, pod: web-1}}]}]\n",
		file, strings.TrimPrefix(mesh.URL, "http://"))
	if err := os.WriteFile(filepath.Join(dir, "prometheus.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	address := listentest.FreeAddress(t)
	cmd := exec.CommandContext(t.Context(), path, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--log.level=error")
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, as was asked
	})
	base := "http://" + address
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if n, err := query(base, `count_over_time(mizzen_controller_build_info[5m]) >= 2 and on () mizzen:requests:rate5m > 0`); err == nil && len(n) > 0 {
			return base
		}
		if time.Now().After(deadline) {
			t.Fatal("Prometheus has not scraped and evaluated within 30 s")
		}
	}
}

// query returns the labels of each result.
func query(base, expression string) ([]map[string]string, error) {
	res, err := http.Get(base + "/api/v1/query?query=" + url.QueryEscape(expression))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var answer struct {
		Error string
		Data  struct {
			Result []struct{ Metric map[string]string }
		}
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, err
	}
	if answer.Error != "" {
		return nil, fmt.Errorf("%s: %s", expression, answer.Error)
	}
	var out []map[string]string
	for _, r := range answer.Data.Result {
		out = append(out, r.Metric)
	}
	return out, nil
}

// dashboard is what the test reads of Grafana's format.
type dashboard struct {
	UID, Title string
	Panels     []struct {
		Title   string
		Targets []struct{ Expr, LegendFormat string }
	}
	Templating struct {
		List []struct {
			Name, Type string
			Query      any
		}
	}
}

var labelValues = regexp.MustCompile(`^label_values\((.*), ([a-z_]+)\)$`)

var (
	summed = regexp.MustCompile(`(?:sum|max|min|count) by \(([a-z_, ]+)\)`)
	legend = regexp.MustCompile(`\{\{([a-z_]+)\}\}`)
)

// Every query finds something. A name that is misspelt, or that the programs no longer have, does not.
func TestEveryQueryFindsData(t *testing.T) {
	base := prometheus(t)
	// Results have the labels by which they are summed up: without one, a sum by it is the sum of all.
	finds := func(what, expression string, labels ...string) {
		t.Helper()
		results, err := query(base, expression)
		if err != nil || len(results) == 0 {
			t.Errorf("%s: %s: %d results, %v", what, expression, len(results), err)
			return
		}
		for _, m := range summed.FindAllStringSubmatch(expression, -1) {
			labels = append(labels, strings.Split(m[1], ", ")...)
		}
		for _, label := range labels {
			if label != "le" && results[0][label] == "" {
				t.Errorf("%s: %s: results have no label %q: %v", what, expression, label, results[0])
			}
		}
	}
	for _, r := range rules(t) {
		if r.Record != "" {
			finds("rule "+r.Record, r.Expr)
			finds("record", r.Record)
		}
	}
	files, err := filepath.Glob(monitoringDir + "/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("dashboards: %q, %v", files, err)
	}
	queries := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var d dashboard
		if err := json.Unmarshal(text, &d); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if d.UID != strings.TrimSuffix(filepath.Base(file), ".json") || d.Title == "" {
			t.Errorf("%s: uid %q, title %q", file, d.UID, d.Title)
		}
		fill := strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*", "$service", ".*")
		for _, v := range d.Templating.List {
			if v.Type != "query" {
				continue
			}
			text, _ := v.Query.(map[string]any)["query"].(string)
			m := labelValues.FindStringSubmatch(text)
			if m == nil {
				t.Errorf("%s: variable %s: %q", d.Title, v.Name, text)
				continue
			}
			finds(d.Title+", variable "+v.Name, fmt.Sprintf("count by (%s) (%s)", m[2], fill.Replace(m[1])))
		}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				expression := fill.Replace(target.Expr)
				if strings.Contains(expression, "$") {
					t.Errorf("%s, %s: an unknown variable in %s", d.Title, p.Title, target.Expr)
				}
				var labels []string
				for _, m := range legend.FindAllStringSubmatch(target.LegendFormat, -1) {
					labels = append(labels, m[1])
				}
				finds(d.Title+", "+p.Title, expression, labels...)
				queries++
			}
		}
	}
	t.Logf("%d queries of %d dashboards", queries, len(files))
}
