package ctl

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/version"
)

func TestTargets(t *testing.T) {
	for _, c := range []struct{ flag, what, name, want string }{
		{"", "Pod", "cart-1.shop", " shop/cart-1"},
		{"", "Pod", "pod/cart-1.shop", "Pod shop/cart-1"},
		{"shop", "Pod", "cart-1", " shop/cart-1"},
		{"shop", "Pod", "cart-1.shop", " shop/cart-1"},
		{"shop", "Pod", "cart.v1", " shop/cart.v1"},
		{"", "Pod", "cart.v1.shop", " shop/cart.v1"},
		{"", "Pod", "cart", " here/cart"},
		{"", "Pod", "deploy/cart.v1.shop", "Deployment shop/cart.v1"},
		{"shop", "Pod", "sts/cart", "StatefulSet shop/cart"},
		{"shop", "Pod", "DaemonSet/cart", "DaemonSet shop/cart"},
		{"", "Pod", "svc/cart.shop.svc.cluster.local", "Service shop/cart"},
		{"", "Service", "cart.shop.svc.cluster.local", " shop/cart"},
		{"", "Service", "service/cart", "Service here/cart"},
		{"", "Service", "deployment.apps/cart.shop", "Deployment shop/cart"},
	} {
		f := clusterFlags{namespace: c.flag}
		got, err := f.parseTarget(c.name, c.what, func() string { return "here" })
		if err != nil || got.String() != c.want {
			t.Errorf("-n %q %s: %q, %v, want %q", c.flag, c.name, got, err, c.want)
		}
	}
	for name, want := range map[string]string{
		"cm/cart": `unknown kind "cm"`, "svc/": "want NAME", "": "want NAME", "svc/a/b": "want NAME", "svc/cart.web": `want that of --namespace, "shop"`,
	} {
		f := clusterFlags{namespace: "shop"}
		if got, err := f.parseTarget(name, "Service", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want an error with %q", name, got, err, want)
		}
	}
}

// What is not understood is an error that says what would be.
func TestWrongCommandLines(t *testing.T) {
	for line, wants := range map[string][]string{
		"frobnicate":                   {`unknown command "frobnicate"`},
		"rutes":                        {`unknown command "rutes"`, "Did you mean", "routes"},
		"idenity x":                    {"Did you mean", "identity"},
		"frobnicate --help":            {`unknown command "frobnicate"`},
		"help frobnicate":              {`unknown command "frobnicate"`},
		"--frob":                       {"unknown flag: --frob", "mizzenctl --help"},
		"routes --prot 80":             {"unknown flag: --prot", "did you mean --port?", "mizzenctl routes --help"},
		"routes -x":                    {"unknown shorthand flag", "mizzenctl routes --help"},
		"routes a b":                   {"at most 1"},
		"routes --port many cart":      {`"many"`, "--port"},
		"routes":                       {"want a Service", "-n NAMESPACE", "-A"},
		"routes cart -A":               {"--all-namespaces"},
		"routes cm/cart":               {`"cm"`, "deploy"},
		"check routes/":                {`"routes/"`, "only flags", "-f FILE"},
		"check":                        {"filename"},
		"identity":                     {"want a pod"},
		"identity a b":                 {`"b"`, "want only"},
		"identity cm/cart":             {`"cm"`, "deploy"},
		"plaintext shop":               {`"shop"`, "only flags", "[-n NAMESPACE]"},
		"plaintext -A -n shop":         {"--all-namespaces"},
		"dryrun --for ever":            {"--for"},
		"version now":                  {`"now"`, "only flags"},
		"version -o wide":              {`"wide"`, wantOutput},
		"inject -f x --imag y":         {"did you mean --image?"},
		"routes deploy/cart -f x.yaml": {"x.yaml"},
	} {
		var out bytes.Buffer
		cmd := newCommand(noCluster, noAgents, goldenNow)
		cmd.SetArgs(strings.Fields(line))
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		err := cmd.Execute()
		if err == nil {
			t.Errorf("mizzenctl %s: no error, want one with %q\n%s", line, wants, out.String())
			continue
		}
		for _, want := range wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("mizzenctl %s: %v, want %q", line, err, want)
			}
		}
	}
}

func TestHelpAndVersionOfEachCommand(t *testing.T) {
	run := func(args ...string) string {
		var out bytes.Buffer
		cmd := newCommand(noCluster, noAgents, goldenNow)
		cmd.SetArgs(args)
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		if err := cmd.Execute(); err != nil {
			t.Errorf("mizzenctl %v: %v", args, err)
		}
		return out.String()
	}
	for _, sub := range newCommand(noCluster, noAgents, goldenNow).Commands() {
		for _, flag := range []string{"-h", "--help"} {
			if out := run(sub.Name(), flag); !strings.Contains(out, "Usage:") || !strings.Contains(out, sub.Use) {
				t.Errorf("mizzenctl %s %s:\n%s", sub.Name(), flag, out)
			}
		}
	}
	if out := run("--version"); !strings.Contains(out, version.Version) {
		t.Errorf("--version: %s", out)
	}
	if out := run("version", "--client"); !strings.Contains(out, version.Version) {
		t.Errorf("version --client: %s", out)
	}
	if out := run("version"); !strings.Contains(out, version.Version) || !strings.Contains(out, "note: ") {
		t.Errorf("version without a cluster: %s", out)
	}
}

// The versions of control plane and sidecars, by pods.
func TestVersions(t *testing.T) {
	const cluster = `
apiVersion: v1
kind: Pod
metadata: {name: mizzen-controller-1, namespace: mizzen-system, labels: {app.kubernetes.io/name: mizzen-controller, app.kubernetes.io/version: "1.1"}}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, annotations: {mizzen.dev/injected: "1.0"}}
spec: {initContainers: [{name: mizzen-capture, image: p, args: [capture]}, {name: mizzen-proxy, image: p, args: [run], restartPolicy: Always}]}
---
apiVersion: v1
kind: Pod
metadata: {name: cart-2, namespace: shop, annotations: {mizzen.dev/injected: "1.1"}}
spec: {initContainers: [{name: mizzen-capture, image: p, args: [capture]}, {name: mizzen-proxy, image: p, args: [run], restartPolicy: Always}]}
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: shop, annotations: {mizzen.dev/injected: "0.9"}}
spec: {initContainers: [{name: mizzen-capture, image: p, args: [capture]}, {name: mizzen-proxy, image: p, args: [run], restartPolicy: Always}]}
status: {phase: Succeeded}
---
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: mizzen-controller-canary-1, namespace: mizzen-system, labels: {app.kubernetes.io/name: mizzen-controller, app.kubernetes.io/version: "1.2", mizzen.dev/revision: canary}}
---
apiVersion: v1
kind: Pod
metadata: {name: bank-1, namespace: bank, annotations: {mizzen.dev/injected: "1.2"}}
spec: {initContainers: [{name: mizzen-capture, image: p, args: [capture]}, {name: mizzen-proxy, image: p, args: [run], restartPolicy: Always, env: [{name: MIZZEN_REVISION, value: canary}]}]}
`
	var out bytes.Buffer
	cmd := newCommand(anyClusterOf(t, []byte(cluster), nil), noAgents, goldenNow)
	cmd.SetArgs([]string{"version"})
	cmd.SetOut(&out)
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	want := "client                          " + version.Version + "\n" +
		"control plane                   1.1 (1 pod)\n" +
		"sidecars                        1.0 (1 pod), 1.1 (1 pod)\n" +
		"control plane, revision canary  1.2 (1 pod)\n" +
		"sidecars, revision canary       1.2 (1 pod)\n"
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}
