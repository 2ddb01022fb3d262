package components

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
	"github.com/mizzen-mesh/mizzen/hack/internal/tools"
)

func input() Input {
	return Input{
		Layout: layout.New("/src/mizzen"), Network: layout.NewNetwork(1),
		Tools: tools.Set{"cni": "/cache/cni", "runc": "/cache/runc", "kube": "/cache/kube"},
	}
}

func TestRenderFillsEveryTemplate(t *testing.T) {
	rendered, err := Render(input())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := files.ReadDir("files")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if len(rendered[targets[e.Name()]]) == 0 {
			t.Errorf("%s is not rendered", e.Name())
		}
	}
	for name, data := range rendered {
		if strings.Contains(string(data), "{{") || strings.Contains(string(data), "<no value>") {
			t.Errorf("%s:\n%s", name, data)
		}
	}
	if !json.Valid(rendered["cni/10-mizzen.conflist"]) {
		t.Errorf("not JSON:\n%s", rendered["cni/10-mizzen.conflist"])
	}
	for file, want := range map[string]string{
		"containerd.toml":        "BinaryName = '/cache/runc/runc'",
		"kubelet.yaml":           "cgroupRoot: /mizzen-" + input().ID,
		"kube-proxy.yaml":        "clusterCIDR: 10.129.0.0/18,fd6d:7a00:1:1::/64",
		"bootstrap.yaml":         `data: {addresses: "10.129.192.0/24"}`,
		"Corefile":               "bind 10.129.128.2 fd6d:7a00:1:3::2",
		"cni/10-mizzen.conflist": `"subnet": "fd6d:7a00:1:1::/64"`,
	} {
		if !strings.Contains(string(rendered[file]), want) {
			t.Errorf("%s lacks %q:\n%s", file, want, rendered[file])
		}
	}
}

func TestComponentsStartAfterThoseTheyNeed(t *testing.T) {
	var seen []string
	for _, c := range All(input()) {
		for _, a := range c.After {
			if !slices.Contains(seen, a) {
				t.Errorf("%s waits for %s, which is started later", c.Name, a)
			}
		}
		if (c.Ready.Socket == "") == (c.Ready.URL == "") {
			t.Errorf("%s: one probe, please", c.Name)
		}
		seen = append(seen, c.Name)
	}
}

func TestVersionReachesThoseThatKnowIt(t *testing.T) {
	in := input()
	in.Version = Version{Emulated: "1.34", FeatureGates: "PodLevelResources=false"}
	emulate, gates := "--emulated-version=1.34", "--feature-gates=PodLevelResources=false"
	want := map[string][]string{
		"kube-apiserver": {emulate, gates}, "kube-controller-manager": {emulate, gates}, "kube-scheduler": {emulate, gates},
		"kubelet": {gates},
	}
	plain := All(input())
	for i, c := range All(in) {
		if got := c.Args[len(plain[i].Args):]; !slices.Equal(got, want[c.Name]) {
			t.Errorf("%s is told %q besides, want %q", c.Name, got, want[c.Name])
		}
	}
}
