package node

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/containernetworking/plugins/pkg/ns"
)

// podInCgroup finds a pod's UID in the path of a cgroup, as the kubelet's two drivers write it.
var podInCgroup = regexp.MustCompile(`pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})\b`)

// process is a process of a pod.
type process struct {
	pid   int
	start uint64 // in the kernel's ticks
}

// sandboxes returns the first process of each pod, by UID. It holds the pod's network namespace: the runtime starts it
// when the namespace is ready, before all other processes. For a moment after its start it is on the node's network.
func sandboxes(proc string) (map[string]process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	out := map[string]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		uid := podOf(proc, pid)
		if uid == "" {
			continue
		}
		start, err := startOf(proc, pid)
		if err != nil {
			continue // it has ended
		}
		if first, ok := out[uid]; !ok || start < first.start {
			out[uid] = process{pid, start}
		}
	}
	return out, nil
}

// podOf returns the UID of a process's pod, or an empty text.
func podOf(proc string, pid int) string {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "cgroup"))
	if err != nil {
		return ""
	}
	match := podInCgroup.FindSubmatch(b)
	if match == nil {
		return ""
	}
	return strings.ReplaceAll(string(match[1]), "_", "-")
}

// startOf returns field 22 of proc_pid_stat(5). The second field, in parentheses, may contain anything.
func startOf(proc string, pid int) (uint64, error) {
	b, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("%d fields", len(fields))
	}
	return strconv.ParseUint(string(fields[19]), 10, 64)
}

// netnsOf opens the network namespace of a pod's process.
func netnsOf(proc string, p process, uid string) (ns.NetNS, error) {
	netns, err := ns.GetNS(filepath.Join(proc, strconv.Itoa(p.pid), "ns", "net"))
	if err != nil {
		return nil, err
	}
	// Another process may have the number by now.
	if start, err := startOf(proc, p.pid); err != nil || start != p.start || podOf(proc, p.pid) != uid {
		_ = netns.Close()
		return nil, fmt.Errorf("process %d has ended", p.pid)
	}
	return netns, nil
}
