package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

func TestParseEmptyIsDefault(t *testing.T) {
	for name, doc := range map[string]string{
		"nothing":   "",
		"a comment": "# all defaults\n---\n",
		"braces":    "{}",
		"the type":  "apiVersion: mizzen.dev/v1alpha1\nkind: MeshConfig\n",
	} {
		t.Run(name, func(t *testing.T) {
			m, err := Parse([]byte(doc))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(Default(), m); diff != "" {
				t.Errorf("-default +parsed:\n%s", diff)
			}
		})
	}
}

func TestDefaultIsValidAndRoundTrips(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	b, err := yaml.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Default(), again); diff != "" {
		t.Errorf("-default +written and read:\n%s", diff)
	}
	m := Default()
	m.Detection.OpaquePorts[0] = 1
	if DefaultOpaquePorts[0] == 1 {
		t.Error("Default shares DefaultOpaquePorts")
	}
}

func TestParseKeepsWhatIsSet(t *testing.T) {
	m, err := Parse([]byte(`
clusterDomain: corp.example
protocolDetection: {timeout: 250ms, opaquePorts: []}
traffic: {retry: {attempts: 0}}
onDemand: {timeout: 1s, wholeMesh: 0, namespace: 0}
sidecar:
  image: mizzen/proxy:1
  concurrency: 0
  drainDelay: 0s
  configScope: demand
  resources: {limits: {memory: 1Gi}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.ControlPlaneAddress, "mizzen-controller.mizzen-system.svc.corp.example:15010"; got != want {
		t.Errorf("ControlPlaneAddress = %q, want %q", got, want)
	}
	if len(m.Detection.OpaquePorts) != 0 || m.Detection.Timeout.Duration != 250*time.Millisecond {
		t.Errorf("Detection = %+v", m.Detection)
	}
	if *m.Traffic.Retry.Attempts != 0 || *m.Sidecar.Concurrency != 0 || m.Sidecar.DrainDelay.Duration != 0 {
		t.Error("a zero that was set became the default")
	}
	if m.OnDemand.Timeout.Duration != time.Second || *m.OnDemand.WholeMesh != 0 || *m.OnDemand.Namespace != 0 || m.Sidecar.ConfigScope != ScopeDemand {
		t.Errorf("OnDemand = %+v, ConfigScope = %q", m.OnDemand, m.Sidecar.ConfigScope)
	}
	if _, ok := m.Sidecar.Resources.Requests[corev1.ResourceCPU]; ok {
		t.Error("default requests were added to limits that were set")
	}
	if err := m.ValidateForInjection(); err != nil {
		t.Error(err)
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		doc  string
		want []string // each in the error
	}{
		//nolint:misspell // on purpose
		"unknown fields, all of them": {"sidecar: {imge: x}\ntrafic: {}\n", []string{
			`sidecar.imge: Invalid value: "x": unknown field`, "trafic: Invalid value: {}: unknown field"}}, //nolint:misspell // on purpose
		"fields are case sensitive":  {"ClusterDomain: x", []string{"ClusterDomain: Invalid value"}},
		"revision":                   {"revision: Next.1", []string{"revision", "Next.1", "want a DNS label of at most 32 characters"}},
		"Gateways of a revision":     {"revision: canary\ngateway: {enabled: true}", []string{"gateway.enabled", "true", "want false in a revision"}},
		"duplicate":                  {"clusterDomain: a\nclusterDomain: b\n", []string{"line 2", `"clusterDomain" already set`}},
		"two documents":              {"clusterDomain: a\n---\nclusterDomain: b\n", []string{"more than one YAML document"}},
		"not a mapping":              {"- a\n", []string{"want a mapping of fields"}},
		"mapping where a number is":  {"sidecar: {concurrency: {a: 1}}", []string{"sidecar.concurrency.a: Invalid value: 1: want a whole number"}},
		"text where a number is":     {"sidecar: {concurrency: two}", []string{`sidecar.concurrency: Invalid value: "two": want a whole number, found string`}},
		"a list element":             {"sidecar: {excludeInboundPorts: [80, x]}", []string{`sidecar.excludeInboundPorts[1]: Invalid value: "x": want a whole number`}},
		"number where a duration is": {"sidecar: {drainDelay: 5}", []string{"sidecar.drainDelay: Invalid value: 5: want a string, found number"}},
		"duration":                   {"traffic: {connectTimeout: soon}", []string{`traffic.connectTimeout: Invalid value: "soon": time: invalid duration`}},
		"quantity":                   {"sidecar: {resources: {requests: {cpu: lots}}}", []string{`sidecar.resources.requests.cpu: Invalid value: "lots": quantities must match`}},
		"text where a truth is":      {"identity: {checkSourceAddress: yes please}", []string{`identity.checkSourceAddress: Invalid value: "yes please": want true or false, found string`}},
		"lifetimes": {"identity: {caLifetime: 1h, certificateLifetime: 21m, caSettle: 11m}", []string{
			`identity.certificateLifetime: Invalid value: "21m0s": want a duration from 2m0s to 20m0s`, `identity.caSettle: Invalid value: "11m0s": want a duration from 1s to 10m0s`}},
		"short lifetimes":  {"identity: {certificateLifetime: 119s}", []string{`identity.certificateLifetime: Invalid value: "1m59s": want a duration from 2m0s`}},
		"a short root":     {"identity: {caLifetime: 5m, certificateLifetime: 2m, caSettle: 1s}", []string{`identity.caLifetime: Invalid value: "5m0s": want a duration from 6m0s to 876000h0m0s`}},
		"the trust domain": {"trustDomain: spiffe://a", []string{`trustDomain: Invalid value: "spiffe://a"`}},
		"type": {"apiVersion: mizzen.dev/v2\nkind: Mesh", []string{
			`apiVersion: Unsupported value: "mizzen.dev/v2": supported values: "mizzen.dev/v1alpha1"`, `kind: Unsupported value: "Mesh"`}},
		"values, all of them": {`
clusterDomain: .local
controlPlaneAddress: nowhere
serviceCIDRs: [10.0.0.1/8]
protocolDetection: {timeout: 0s, opaquePorts: [0]}
mtls: {drainTime: 1s}
traffic: {connectTimeout: 1h, peerTimeout: 2s, connectFailures: -1, retry: {attempts: 11, budgetPercent: 0, minConcurrent: -1}, routeRetry: {budgetPercent: 101, minConcurrent: -1}}
onDemand: {timeout: 999ms, wholeMesh: 50001, namespace: -1}
sidecar:
  image: "a b"
  imagePullPolicy: Sometimes
  logLevel: loud
  concurrency: 65
  drainDelay: 1500ms
  configScope: some
  excludeInboundPorts: [65536]
  excludeOutboundPorts: [-1]
  excludeOutboundCIDRs: [10.0.0.1]
  resources: {requests: {cpu: "2", memory: 64}, limits: {cpu: "1"}}
`, []string{
			"clusterDomain:", "controlPlaneAddress:", "serviceCIDRs[0]:", "protocolDetection.timeout:", "protocolDetection.opaquePorts[0]:",
			"mtls.drainTime: Invalid value: \"1s\": want a duration from 2s to 1h0m0s",
			"traffic.connectTimeout: Invalid value: \"1h0m0s\": want a duration from 1ms to 5m0s", "traffic.peerTimeout: Invalid value: \"2s\": want a duration from 3s to 24h, or 0s", "traffic.connectFailures: Invalid value: -1: want a whole number from 0 to 1000000", "traffic.retry.attempts: Invalid value: 11: want a whole number from 0 to 10",
			"traffic.retry.budgetPercent:", "traffic.retry.minConcurrent:", "traffic.routeRetry.budgetPercent:", "traffic.routeRetry.minConcurrent:", "sidecar.image:", "sidecar.imagePullPolicy:", "sidecar.logLevel:",
			"sidecar.concurrency:", `sidecar.drainDelay: Invalid value: "1.5s": want whole seconds`, "sidecar.excludeInboundPorts[0]:",
			"sidecar.excludeOutboundPorts[0]:", "sidecar.excludeOutboundCIDRs[0]:", "sidecar.resources.requests[memory]:",
			"onDemand.timeout: Invalid value: \"999ms\": want a duration from 1s to 5m0s", "onDemand.wholeMesh: Invalid value: 50001: want a whole number from 0 to 50000",
			"onDemand.namespace: Invalid value: -1", `sidecar.configScope: Unsupported value: "some": supported values: "all", "namespace", "demand"`,
			"sidecar.resources.requests[cpu]: Invalid value: \"2\": want at most the limit, 1",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(c.doc))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error lacks %q:\n%v", want, err)
				}
			}
		})
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "mesh.yaml")
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("missing file: %v", err)
	}
	if err := os.WriteFile(path, []byte("nope: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), path+": nope") {
		t.Errorf("bad file: %v", err)
	}
	if err := Default().ValidateForInjection(); err == nil || !strings.Contains(err.Error(), "sidecar.image: Required") {
		t.Errorf("no image: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("sidecar: {drainDelay: 5s, excludeInboundPorts: [1]}"))
	f.Add([]byte("a: [{b: {}}]\n---\n"))
	f.Fuzz(func(t *testing.T, doc []byte) {
		if m, err := Parse(doc); err == nil && m.Validate() != nil {
			t.Errorf("%q: accepted, but not valid", doc)
		}
	})
}
