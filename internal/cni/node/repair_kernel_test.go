package node

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/mizzen-mesh/mizzen/internal/capture"
)

// A pod that the plugin has passed over is captured in place, once, and an event says so. One without a process is left alone, and
// so is a process on the node's own network.
func TestRepair(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces and writes nftables rules in them")
	}
	netns, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	proc := t.TempDir()
	const inPod, onNode, none = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555", "00000000-2222-3333-4444-555555555555"
	podNet, hostNet := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), netns.Fd()), "/proc/self/ns/net"
	for pid, p := range map[string]struct{ uid, net string }{"1": {"", hostNet}, "30": {inPod, podNet}, "40": {onNode, hostNet}} {
		dir := filepath.Join(proc, pid, "ns")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(p.net, filepath.Join(dir, "net")); err != nil {
			t.Fatal(err)
		}
		for name, content := range map[string]string{"cgroup": "0::/pod" + p.uid + "/x\n", "stat": pid + " (a) S " + strings.Repeat("1 ", 18) + "7 0\n"} {
			if err := os.WriteFile(filepath.Join(proc, pid, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	var pods []*corev1.Pod
	for _, uid := range []string{inPod, onNode, none} {
		pod := meshed()
		pod.UID = types.UID(uid)
		pods = append(pods, pod)
	}
	recorder := events.NewFakeRecorder(10)
	repaired, failed := 0, 0
	r := &Repair{
		Pods: func() []*corev1.Pod { return pods }, Proc: proc, Recorder: recorder, Log: slog.New(slog.DiscardHandler),
		Repaired: func() { repaired++ }, Failed: func() { failed++ },
	}
	r.once(false)
	r.once(true)
	if repaired != 1 || failed != 2 {
		t.Errorf("%d repaired, %d failed; want one, and twice the process on the node's network", repaired, failed)
	}
	if event := <-recorder.Events; !strings.Contains(event, "CaptureRepaired") {
		t.Errorf("event %q", event)
	}
	for path, want := range map[string]bool{podNet: true, hostNet: false} {
		var got bool
		err := ns.WithNetNSPath(path, func(ns.NetNS) (err error) { got, err = capture.Present(); return err })
		if err != nil || got != want {
			t.Errorf("%s: captured %t, %v; want %t", path, got, err, want)
		}
	}
}
