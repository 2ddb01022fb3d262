package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ns"
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/cni/api"
	"github.com/mizzen-mesh/mizzen/internal/cni/node"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
)

// pluginEnv makes the test binary the plugin.
const pluginEnv = "MIZZEN_TEST_PLUGIN"

func TestMain(m *testing.M) {
	if os.Getenv(pluginEnv) != "" {
		skel.PluginMainFuncs(Funcs(), version.All, "test")
		return
	}
	os.Exit(m.Run())
}

// call runs the plugin as a runtime does, and gives what it prints.
func call(t *testing.T, command, netns, socket, pod string) (map[string]any, error) {
	t.Helper()
	conf := map[string]any{
		"cniVersion": "1.1.0", "name": "n", "type": "mizzen-cni", "socket": socket,
		"prevResult": map[string]any{"cniVersion": "1.1.0", "interfaces": []any{map[string]any{"name": "eth0", "sandbox": netns}}, "dns": map[string]any{}},
	}
	if command == "GC" || command == "STATUS" {
		delete(conf, "prevResult")
	}
	stdin, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
	cmd.Env = []string{
		pluginEnv + "=1", "CNI_COMMAND=" + command, "CNI_CONTAINERID=c1", "CNI_NETNS=" + netns, "CNI_IFNAME=eth0", "CNI_PATH=/",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID=c1;K8S_POD_NAMESPACE=shop;K8S_POD_UID=u1;K8S_POD_NAME=" + pod,
	}
	cmd.Stdin = strings.NewReader(string(stdin))
	stdout, err := cmd.Output()
	out := map[string]any{}
	if len(stdout) > 0 {
		if jerr := json.Unmarshal(stdout, &out); jerr != nil {
			t.Fatalf("%v: %s", jerr, stdout)
		}
	}
	return out, err
}

func TestPlugin(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces and writes nftables rules in them")
	}
	dir := t.TempDir()
	l, err := node.Listen(dir, "w")
	if err != nil {
		t.Fatal(err)
	}
	reports := make(chan string, 10)
	server := &http.Server{Handler: (&node.Server{
		Log: slog.New(slog.DiscardHandler), Captured: func() { reports <- "captured" }, Failed: func() { reports <- "failed" },
		Find: func(_ context.Context, p api.Pod) (*corev1.Pod, error) {
			proxy := sidecartest.Containers()[1]
			proxy.Args = append(proxy.Args, "--"+contract.CaptureByCNIFlag, "--exclude-outbound-ports=25")
			switch pod := (&corev1.Pod{Spec: corev1.PodSpec{InitContainers: []corev1.Container{proxy}}}); p.Name {
			case "meshed":
				return pod, nil
			case "bad":
				pod.Spec.InitContainers[0].Args[2] = "--exclude-outbound-ports=x"
				return pod, nil
			case "unknown":
				return nil, errors.New("no API server")
			}
			return &corev1.Pod{}, nil
		},
	}).Handler()}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	socket := filepath.Join(dir, node.SocketName)

	for _, tt := range []struct {
		pod, socket string
		captured    bool
		fail        string
	}{
		{pod: "meshed", socket: socket, captured: true},
		{pod: "plain", socket: socket},
		{pod: "unknown", socket: socket},
		{pod: "meshed", socket: filepath.Join(dir, "nobody")},
		{pod: "bad", socket: socket, fail: "mizzen-cni: pod shop/bad"},
	} {
		t.Run(tt.pod+" "+filepath.Base(tt.socket), func(t *testing.T) {
			netns := newNetns(t)
			out, err := call(t, "ADD", netns.Path(), tt.socket, tt.pod)
			if tt.fail != "" {
				if err == nil || !strings.Contains(out["msg"].(string), tt.fail) || !strings.Contains(out["details"].(string), "want a port number") {
					t.Fatalf("%v, %v, want %q", err, out, tt.fail)
				}
				return
			}
			if err != nil {
				t.Fatalf("%v: %v", err, out)
			}
			if interfaces, ok := out["interfaces"].([]any); !ok || len(interfaces) != 1 {
				t.Errorf("the result of the plugin before is not passed on: %v", out)
			}
			if got := present(t, netns); got != tt.captured {
				t.Errorf("captured: %t, want %t", got, tt.captured)
			}
			if tt.captured {
				if report := <-reports; report != "captured" {
					t.Errorf("report %s", report)
				}
			}
			if _, err := call(t, "CHECK", netns.Path(), tt.socket, tt.pod); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			for _, command := range []string{"DEL", "GC", "STATUS"} {
				if out, err := call(t, command, netns.Path(), tt.socket, tt.pod); err != nil {
					t.Errorf("%s: %v %v", command, err, out)
				}
			}
		})
	}
	if out, err := call(t, "CHECK", newNetns(t).Path(), socket, "meshed"); err == nil || !strings.Contains(out["msg"].(string), "has no capture rules") {
		t.Errorf("CHECK without rules: %v %v", err, out)
	}
}

// newNetns gives a namespace like a pod's, at a path that another process can open.
func newNetns(t *testing.T) ns.NetNS {
	t.Helper()
	netns, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = netns.Close() })
	return fdPath{netns}
}

// fdPath names a namespace by this process' file of it: the thread that made it is elsewhere by now.
type fdPath struct{ ns.NetNS }

func (p fdPath) Path() string {
	return filepath.Join("/proc", strconv.Itoa(os.Getpid()), "fd", strconv.Itoa(int(p.Fd())))
}

func do(t *testing.T, netns ns.NetNS, f func() error) {
	t.Helper()
	if err := netns.Do(func(ns.NetNS) error { return f() }); err != nil {
		t.Fatal(err)
	}
}

func present(t *testing.T, netns ns.NetNS) (found bool) {
	t.Helper()
	do(t, netns, func() (err error) { found, err = capture.Present(); return err })
	return found
}
