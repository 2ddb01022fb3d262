package ctl

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
)

// secretValue is in every place of the cluster below in which a secret may be.
const secretValue = "hunter2"

const reported = `apiVersion: v1
kind: ConfigMap
metadata: {name: mizzen-mesh, namespace: mizzen-system}
data: {mesh.yaml: "trustDomain: cluster.local\n"}
---
apiVersion: v1
kind: Secret
metadata: {name: mizzen-ca, namespace: mizzen-system}
stringData: {tls.key: hunter2}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: cart
  namespace: shop
  annotations: {kubectl.kubernetes.io/last-applied-configuration: hunter2, notes: hunter2, mizzen.dev/timeout: 5s}
spec:
  rules:
  - matches: [{headers: [{name: x-key, value: hunter2}], queryParams: [{name: key, value: hunter2}]}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: authorization, value: hunter2}], add: [{name: x, value: hunter2}]}}
status:
  parents:
  - parentRef: {name: cart}
    controllerName: mizzen.dev/controller
    conditions: [{type: Accepted, status: "False", reason: UnsupportedValue, message: 'headers[0].value: "a \"hunter2": want text', lastTransitionTime: "2026-02-28T12:00:00Z"}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public, namespace: shop, annotations: {notmizzen.dev/x: hunter2}}
spec:
  gatewayClassName: mizzen
  infrastructure: {annotations: {theirs: hunter2, mizzen.dev/x: kept}}
  listeners: [{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: c}], options: {theirs: hunter2, mizzen.dev/http3: "true"}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: bare, namespace: shop}
spec: {containers: [{name: app, image: app}]}
status: {phase: Running}
---
apiVersion: v1
kind: Pod
metadata: {name: c-1, namespace: mizzen-system, labels: {app.kubernetes.io/name: mizzen-controller}}
spec: {containers: [{name: controller, image: controller, env: [{name: TOKEN, value: hunter2}]}, {name: vault, image: v, args: [hunter2]}]}
status: {phase: Running, conditions: [{type: Ready, status: "True"}], containerStatuses: [{name: controller, restartCount: 1, ready: true, image: "", imageID: ""}, {name: vault, restartCount: 1, ready: true, image: "", imageID: ""}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, annotations: {mizzen.dev/injected: "0.2.0", vault: hunter2}}
spec:
  initContainers:
  - {name: mizzen-proxy, image: proxy, args: [run], restartPolicy: Always, env: [{name: MIZZEN_APP_PROBES_KEY, value: hunter2}]}
  - {name: mizzen-capture, image: proxy, args: [capture]}
  volumes: [{name: v, csi: {driver: d, volumeAttributes: {key: hunter2}}}]
  containers:
  - {name: mizzen-mine, image: app, args: [hunter2]}
  - {name: app, image: app, args: [hunter2], env: [{name: PASSWORD, value: hunter2}], livenessProbe: {httpGet: {port: 1, httpHeaders: [{name: key, value: hunter2}]}}}
status:
  phase: Pending
  conditions: [{type: Ready, status: "False"}]
  initContainerStatuses: [{name: mizzen-proxy, restartCount: 0, ready: false, image: "", imageID: ""}]
  containerStatuses: [{name: app, restartCount: 3, ready: false, image: "", imageID: "", lastState: {terminated: {exitCode: 1, message: hunter2}}}]
  ephemeralContainerStatuses: [{name: debug, restartCount: 0, ready: false, image: "", imageID: "", state: {terminated: {exitCode: 1, message: hunter2}}}]
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, annotations: {mizzen.dev/injected: "0.2.0"}}
spec:
  initContainers:
  - {name: mizzen-proxy, image: proxy, args: [run], restartPolicy: Always}
  - {name: mizzen-capture, image: proxy, args: [capture]}
  containers: [{name: app, image: app}]
status: {phase: Running, conditions: [{type: Ready, status: "True"}]}
`

func page(text string) json.RawMessage {
	b, _ := json.Marshal(text)
	return b
}

// A report has what helps, of the pods that something is wrong with or that are named, and nothing that may be a secret.
func TestBugReport(t *testing.T) {
	of := fakeAgents{
		"mizzen-system/c-1": {
			"/debug/proxies": json.RawMessage(`[{"proxy": "shop/web-1"}]`), "/debug/problems": json.RawMessage(`{}`), "/metrics": page("# TYPE x gauge\nx 1\n"),
			"log of controller": page("serving"), "log of controller before": page("panic"),
		},
		"shop/cart-1": {"/metrics": page("# TYPE mizzen_agent_envoy_up gauge\nmizzen_agent_envoy_up 1\n"), agentapi.IdentityPath: json.RawMessage(`{}`), "log of mizzen-proxy": page("time=1 level=INFO msg=waiting\ntime=2 level=debug source=envoy.http msg=\"authorization: hunter2\"\n")},
		"shop/web-1":  {"error": page("away")},
	}
	always := []string{
		"README.txt", "control-plane/c-1/controller.log", "control-plane/c-1/controller.previous.log", "control-plane/c-1/metrics.txt", "control-plane/c-1/pod.yaml",
		"control-plane/c-1/problems.json", "control-plane/c-1/proxies.json", "install-check.yaml", "mesh.yaml", "objects/Gateways.yaml", "objects/HTTPRoutes.yaml", "stat.yaml", "status.yaml", "version.yaml",
	}
	for name, tt := range map[string]struct {
		args []string
		want []string // besides
		errs []string
	}{
		"what is not well": {nil, []string{"pods/shop/cart-1/identity.json", "pods/shop/cart-1/metrics.txt", "pods/shop/cart-1/mizzen-proxy.log", "pods/shop/cart-1/pod.yaml"}, nil},
		"a named pod":      {[]string{"web-1.shop"}, []string{"errors.txt", "pods/shop/web-1/pod.yaml"}, []string{"pods/shop/web-1/identity.json: away", "pods/shop/web-1/metrics.txt: away"}},
		"no such pod":      {[]string{"gone.shop"}, []string{"errors.txt"}, []string{"pods/shop/gone: Pod shop/gone does not exist"}},
		"without sidecar":  {[]string{"bare.shop"}, []string{"errors.txt"}, []string{"pods/shop/bare: has no sidecar"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "report.tar.gz")
			var out bytes.Buffer
			cmd := newCommand(anyClusterOf(t, []byte(reported), nil), func(*clusterFlags) (agents, error) { return of, nil }, goldenNow)
			cmd.SetArgs(append([]string{"bug-report", "-o", file}, tt.args...))
			cmd.SetOut(&out)
			if err := cmd.Execute(); err != nil {
				t.Fatal(err)
			}
			files := unpacked(t, file)
			want := slices.Sorted(slices.Values(slices.Concat(always, tt.want)))
			if diff := cmp.Diff(want, slices.Sorted(maps.Keys(files))); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			for name, content := range files {
				if strings.Contains(content, secretValue) {
					t.Errorf("%s has a secret:\n%s", name, content)
				}
			}
			errs := slices.DeleteFunc(strings.Split(files["errors.txt"], "\n"), func(s string) bool { return s == "" })
			slices.Sort(errs)
			if !slices.Equal(errs, tt.errs) {
				t.Errorf("errors.txt: %q, want %q", errs, tt.errs)
			}
			for name, text := range map[string]string{
				"mesh.yaml": "trustDomain: cluster.local", "control-plane/c-1/controller.previous.log": "panic", "stat.yaml": "pod: web-1",
				"objects/HTTPRoutes.yaml": "mizzen.dev/timeout: 5s", "objects/Gateways.yaml": "mizzen.dev/http3: \"true\"",
			} {
				if !strings.Contains(files[name], text) {
					t.Errorf("%s has no %q:\n%s", name, text, files[name])
				}
			}
			if want := fmt.Sprintf("%s: %d files\n", file, len(files)); !strings.HasPrefix(out.String(), want) {
				t.Errorf("said %q, want %q", out.String(), want)
			}
		})
	}
}

// Who may not list all pods has the control plane and the named pods, and what else may be read.
func TestBugReportWithFewRights(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	cmd := newCommand(anyClusterOf(t, []byte(reported), []string{"Pod", "Node"}), func(*clusterFlags) (agents, error) { return fakeAgents{}, nil }, goldenNow)
	cmd.SetArgs([]string{"bug-report", "-o", file, "cart-1.shop"})
	cmd.SetOut(io.Discard)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	files := unpacked(t, file)
	for _, name := range []string{"errors.txt", "control-plane/c-1/pod.yaml", "pods/shop/cart-1/pod.yaml", "objects/HTTPRoutes.yaml"} {
		if files[name] == "" {
			t.Errorf("no %s among %v", name, slices.Sorted(maps.Keys(files)))
		}
	}
}

// A file that exists is not overwritten.
func TestBugReportKeepsFiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.tar.gz")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := newCommand(anyClusterOf(t, []byte(reported), nil), func(*clusterFlags) (agents, error) { return fakeAgents{}, nil }, goldenNow)
	cmd.SetArgs([]string{"bug-report", "-o", file})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("error %v", err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "mine" {
		t.Errorf("the file has %q, %v", b, err)
	}
}

// unpacked reads an archive.
func unpacked(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	archive := tar.NewReader(z)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		out[strings.TrimPrefix(header.Name, "mizzen-bug-report/")] = string(b)
	}
}
