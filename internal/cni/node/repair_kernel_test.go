package node

import (
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"

	"github.com/mizzen-mesh/mizzen/internal/capture"
)

// A pod that the plugin has passed over is captured in place, once, and an event says so. One without a process or an address is
// left alone, and so is a process that is not on the pod's network.
func TestRepair(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces and writes nftables rules in them")
	}
	netns, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	defer netns.Close()
	node, err := ns.TempNetNS() // another than that of the machine's first process, as where nodes are containers
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	const podIP = "10.9.9.9"
	if err := netns.Do(func(ns.NetNS) error { return addAddress(podIP) }); err != nil {
		t.Fatal(err)
	}
	proc := t.TempDir()
	const inPod, onNode, none = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555", "00000000-2222-3333-4444-555555555555"
	const early = "22222222-2222-3333-4444-555555555555"
	podNet, nodeNet := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), netns.Fd()), fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), node.Fd())
	for pid, p := range map[string]struct{ uid, net string }{"30": {inPod, podNet}, "40": {onNode, nodeNet}, "50": {early, nodeNet}} {
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
	for _, uid := range []string{inPod, onNode, none, early} {
		pod := meshed()
		if pod.UID = types.UID(uid); uid != early {
			pod.Status.PodIPs = []corev1.PodIP{{IP: podIP}}
		}
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
		t.Fatalf("%d repaired, %d failed; want one, and twice the process on the node's network whose pod has an address", repaired, failed)
	}
	if event := <-recorder.Events; !strings.Contains(event, "CaptureRepaired") {
		t.Errorf("event %q", event)
	}
	for path, want := range map[string]bool{podNet: true, nodeNet: false} {
		var got bool
		err := ns.WithNetNSPath(path, func(ns.NetNS) (err error) { got, err = capture.Present(); return err })
		if err != nil || got != want {
			t.Errorf("%s: captured %t, %v; want %t", path, got, err, want)
		}
	}
}

// addAddress adds an address to the loopback interface of this network namespace.
func addAddress(ip string) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.AddrAdd(lo, &netlink.Addr{IPNet: netlink.NewIPNet(net.ParseIP(ip))})
}
