package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	yamlv3 "go.yaml.in/yaml/v3"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/internal/webhookcert"
)

// What the control plane refuses when it starts, the chart refuses before anything is installed, and nothing else:
// the same values are given to both.
func TestChartAndControlPlaneRefuseTheSame(t *testing.T) {
	helm(t)
	tests := map[string]struct{ good, bad []string }{
		"mesh.identity.caLifetime":          {[]string{`"72h"`, `"876000h"`, `"100h30m"`}, []string{`"876001h"`, `"1h"`, `"0s"`, `"-1h"`, `"1d"`, `5`}},
		"mesh.identity.certificateLifetime": {[]string{`"2m"`, `"1m60s"`, `"29200h"`}, []string{`"1m59s"`, `"119999ms"`, `"30s"`, `"29201h"`, `"99999999999h"`, `"2"`}},
		"mesh.identity.caSettle":            {[]string{`"1s"`, `".5m"`, `"14600h"`}, []string{`"999ms"`, `"0s"`, `"14601h"`, `""`}},
		"mesh.mtls.drainTime":               {[]string{`"2s"`, `"2000ms"`, `"1h"`}, []string{`"1.9s"`, `"1h1s"`, `"0"`, `"2 s"`}},
		"mesh.mtls.mode":                    {[]string{`"strict"`}, []string{`"STRICT"`}},
		"mesh.protocolDetection.timeout":    {[]string{`"1ms"`, `"1000µs"`, `"1m"`}, []string{`"999µs"`, `"999us"`, `"61s"`}},
		"mesh.protocolDetection.opaquePorts": {
			[]string{`[]`, `[1, 65535]`}, []string{`[0]`, `[65536]`, `["http"]`},
		},
		"mesh.traffic.connectTimeout":           {[]string{`"1ms"`, `"5m"`}, []string{`"0s"`, `"5m1ns"`, `"1000000ns1h"`}},
		"mesh.traffic.peerTimeout":              {[]string{`"0s"`, `"0"`, `"3s"`, `"24h"`}, []string{`"2999ms"`, `"24h1s"`, `"1ns"`}},
		"mesh.traffic.retry.attempts":           {[]string{`0`, `10`}, []string{`-1`, `11`, `1.5`}},
		"mesh.traffic.retry.minConcurrent":      {[]string{`0`, `1000000`}, []string{`-1`, `1000001`}},
		"mesh.traffic.routeRetry.budgetPercent": {[]string{`1`, `100`}, []string{`0`, `101`}},
		"mesh.onDemand.timeout":                 {[]string{`"1s"`, `"5m"`}, []string{`"999ms"`, `"301s"`}},
		"mesh.onDemand.wholeMesh":               {[]string{`0`, `50000`}, []string{`-1`, `50001`}},
		"mesh.clusterDomain":                    {[]string{`"a"`, `"a.b-c.d1"`}, []string{`"a."`, `"A"`, `"-a"`, `"` + strings.Repeat("a.", 127) + `a"`}},
		"mesh.trustDomain":                      {[]string{`"a"`, `"` + strings.Repeat("a.", 126) + `a"`}, []string{`"a b"`, `"a_b"`, `"spiffe://a"`}},
		"mesh.controlPlaneAddress": {
			[]string{`"a:1"`, `"[::1]:65535"`, `"10.0.0.1:15010"`}, []string{`"a"`, `":15010"`, `"a:0"`, `"a:65536"`, `"a:b:1"`, `"a:http"`},
		},
		"mesh.serviceCIDRs": {
			[]string{`["10.0.0.0/8"]`, `["10.0.0.4/30", "10.0.0.1/32"]`, `["0.0.0.0/0", "::/0"]`, `["fd00::/8"]`, `["fd00::1/128"]`, `["fe80:0:8000::/33"]`, `["1:2:3:4:5:6:7:8/128"]`},
			[]string{`["10.1.0.0/8"]`, `["10.0.0.0/33"]`, `["10.0.0.0/08"]`, `["010.0.0.0/8"]`, `["10.0.0/8"]`, `["256.0.0.0/8"]`, `["fd00::1/8"]`, `["fe80:0:4000::/33"]`, `["fd00::/129"]`, `["1::2::/64"]`, `[":::/3"]`, `["1:2:3:4:5:6:7::8/128"]`, `["12345::/16"]`, `["fe80::%eth0/64"]`, `["10.0.0.0"]`, `["10.0.0.0/8", "10.0.0.1/8"]`},
		},
		"mesh.sidecar.excludeOutboundCIDRs": {[]string{`["169.254.169.254/32"]`}, []string{`["169.254.169.254/16"]`, `["::1/64"]`}},
		"mesh.sidecar.excludeInboundPorts":  {[]string{`[9090]`}, []string{`[0]`, `[70000]`}},
		"mesh.sidecar.excludeOutboundPorts": {[]string{`[5432]`}, []string{`[-1]`}},
		"mesh.sidecar.drainDelay":           {[]string{`"0s"`, `"1h"`, `"1000ms"`, `"1m1s"`}, []string{`"1500ms"`, `"1h1s"`, `"-1s"`, `"1ns"`}},
		"mesh.sidecar.concurrency":          {[]string{`0`, `64`}, []string{`-1`, `65`}},
		"mesh.sidecar.logLevel":             {[]string{`"off"`}, []string{`"warn"`}},
		"mesh.sidecar.configScope":          {[]string{`""`, `"demand"`}, []string{`"mesh"`}},
		"mesh.sidecar.resources": {
			[]string{`{}`, `{"requests": {"cpu": 1, "memory": "1Mi"}}`, `{"requests": {"cpu": "1"}, "limits": {"cpu": "1000m"}}`, `{"requests": {"memory": 1048576}, "limits": {"memory": "1e7"}}`, `{"requests": {"ephemeral-storage": 0}}`},
			[]string{
				`{"requests": {"cpu": 0}}`, `{"requests": {"cpu": "0m"}}`, `{"requests": {"cpu": -1}}`, `{"limits": {"memory": "128"}}`, `{"limits": {"memory": "128m"}}`, `{"limits": {"memory": "1MB"}}`,
				`{"requests": {"cpu": "2"}, "limits": {"cpu": "1999m"}}`, `{"requests": {"memory": "1Gi"}, "limits": {"memory": "1G"}}`, `{"requests": {"ephemeral-storage": "-1"}}`, `{"claims": [{"name": "a"}]}`,
			},
		},
		"webhook.caLifetime":          {[]string{`"72h"`}, []string{`"71h"`, `"0s"`, `"a"`}},
		"webhook.certificateLifetime": {[]string{`"1s"`, `"2920h"`}, []string{`"0s"`, `"2920h1s"`}},
		"webhook.caSettle":            {[]string{`"0s"`, `"1460h"`}, []string{`"1460h1s"`, `"-1s"`}},
	}
	for path, tt := range tests {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			for _, text := range tt.good {
				if err := controlPlane(path, text); err != nil {
					t.Errorf("%s: the control plane refuses what is listed as good: %v", text, err)
				}
				if stderr, ok := chart(t, path, text); !ok {
					t.Errorf("%s: the chart refuses what the control plane takes: %s", text, stderr)
				}
			}
			for _, text := range tt.bad {
				if controlPlane(path, text) == nil {
					t.Errorf("%s: the control plane takes what is listed as bad", text)
				}
				stderr, ok := chart(t, path, text)
				name := path[strings.LastIndex(path, ".")+1:]
				switch {
				case ok:
					t.Errorf("%s: the chart takes what the control plane refuses", text)
				case !strings.Contains(stderr, name):
					t.Errorf("%s: the chart's message does not name %s: %s", text, name, stderr)
				}
			}
		})
	}
}

// Strict without identities is refused by both, whichever way it is said.
func TestStrictWithoutIdentity(t *testing.T) {
	_, stderr, ok := runHelm(t, "template", "mizzen", chartDir, "--set", "mesh.mtls.mode=strict,mesh.identity.enabled=false")
	if ok || !strings.Contains(stderr, "mesh.mtls.mode") {
		t.Errorf("accepted, or a message that does not name the value: %s", stderr)
	}
	if _, err := config.Parse([]byte(`{"mtls": {"mode": "strict"}, "identity": {"enabled": false}}`)); err == nil {
		t.Error("the control plane takes it")
	}
}

// chart says whether the chart renders with one value, which is JSON.
func chart(t *testing.T, path, text string) (stderr string, ok bool) {
	_, stderr, ok = runHelm(t, "template", "mizzen", chartDir, "--set-json", path+"="+text)
	return stderr, ok
}

// controlPlane gives the error with which the control plane would not start.
func controlPlane(path, text string) error {
	if flag, ok := strings.CutPrefix(path, "webhook."); ok {
		policy := webhookcert.DefaultLifetimes
		var d string
		if err := yaml.Unmarshal([]byte(text), &d); err != nil {
			return err
		}
		value, err := time.ParseDuration(d)
		if err != nil {
			return err
		}
		*map[string]*time.Duration{"caLifetime": &policy.CALifetime, "certificateLifetime": &policy.LeafLifetime, "caSettle": &policy.Settle}[flag] = value
		return policy.Validate()
	}
	steps := strings.Split(path, ".")[1:]
	_, err := config.Parse([]byte(`{"` + strings.Join(steps, `": {"`) + `": ` + text + strings.Repeat("}", len(steps))))
	return err
}

// noResources: to take these away has always meant that there are none, not the default.
const noResources = "controller.resources=null,mesh.sidecar.resources=null,gateway.defaults.resources=null"

// The chart takes the values of older releases, with which `helm upgrade --reuse-values` renders it, and says the
// same of what they did not have as of its own defaults.
func TestReusedValues(t *testing.T) {
	helm(t)
	want := string(render(t, "--set", noResources))
	old, err := filepath.Glob("reused/*.yaml")
	if err != nil || len(old) == 0 {
		t.Fatalf("no values of older releases: %v", err)
	}
	tests := map[string]string{"no values at all": ""}
	for _, file := range old {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests[file] = string(b)
	}
	for name, values := range tests {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "mizzen")
			if err := os.CopyFS(dir, os.DirFS(chartDir)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "values.yaml"), []byte(values), 0o644); err != nil {
				t.Fatal(err)
			}
			got, stderr, ok := runHelm(t, "template", "mizzen", dir, "-n", "mizzen-system")
			if !ok {
				t.Fatal(stderr)
			}
			if values == "" && string(got) != want {
				t.Error("it renders something else than the default values do")
			}
			if err := meshConfig(t, got).ValidateForInjection(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A null takes a value away, and a map with all that is in it.
func TestEachMapMayBeMissing(t *testing.T) {
	helm(t)
	want := string(render(t, "--set", noResources))
	walk(readValues(t), "", func(path string, key, val *yamlv3.Node) bool {
		inner := val.Kind == yamlv3.MappingNode && len(val.Content) > 0 && key.Value != "resources"
		if inner {
			t.Run(path, func(t *testing.T) {
				t.Parallel()
				if got := string(render(t, "--set", noResources+","+path+"=null")); got != want {
					t.Errorf("without %s it renders something else than with its defaults", path)
				}
			})
		}
		return inner
	})
}

// defaults.yaml has what values.yaml has: templates read it where a release's values lack something.
func TestDefaultsAreTheValues(t *testing.T) {
	var values any
	if err := readValues(t).Decode(&values); err != nil {
		t.Fatal(err)
	}
	b, err := yaml.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	note := "# The values of values.yaml, for releases whose own lack some of them. Written by `go test ./test/chart -update`.\n"
	golden.Check(t, filepath.Join(chartDir, "defaults.yaml"), append([]byte(note), b...))
}
