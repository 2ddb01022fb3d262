package chaos

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// podInCgroup finds a pod's UID in the path of a cgroup, as the kubelet's two drivers write it.
var podInCgroup = regexp.MustCompile(`pod([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12})\b`)

// process is a process of a pod, on this machine.
type process struct {
	pid     int
	uid     string // of the pod
	program string // the file's name
	start   uint64 // in the kernel's ticks
}

// processes returns those of all pods whose processes are below a directory such as /proc, each pod's in the order of their start.
func processes(proc string) (map[string][]process, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	out := map[string][]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(proc, pid); ok {
			out[p.uid] = append(out[p.uid], p)
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b process) int { return cmp.Compare(a.start, b.start) })
	}
	return out, nil
}

// readProcess reports whether there is a process of a pod with this number.
func readProcess(proc string, pid int) (process, bool) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	cgroup, err := os.ReadFile(filepath.Join(dir, "cgroup"))
	if err != nil {
		return process{}, false
	}
	match := podInCgroup.FindSubmatch(cgroup)
	program, err := os.Readlink(filepath.Join(dir, "exe"))
	if match == nil || err != nil {
		return process{}, false
	}
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return process{}, false
	}
	// The second field, in parentheses, may contain anything. See proc_pid_stat(5).
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 20 {
		return process{}, false
	}
	start, err := strconv.ParseUint(string(fields[19]), 10, 64)
	if err != nil {
		return process{}, false
	}
	return process{pid: pid, uid: strings.ReplaceAll(string(match[1]), "_", "-"), program: filepath.Base(strings.TrimSuffix(program, " (deleted)")), start: start}, true
}

// processOf finds the first process of a program in a pod; without a program, the pod's first one, which holds its network namespace.
func processOf(pod *corev1.Pod, program string) (process, error) {
	all, err := processes("/proc")
	if err != nil {
		return process{}, err
	}
	for _, p := range all[string(pod.UID)] {
		if program == "" || p.program == program {
			return p, nil
		}
	}
	return process{}, fmt.Errorf("pod %s/%s has no process of the program %q on this machine", pod.Namespace, pod.Name, program)
}

// signal sends one to the process, unless another one has its number by now.
func (p process) signal(s syscall.Signal) error {
	if err := p.there(); err != nil {
		return err
	}
	if err := syscall.Kill(p.pid, s); err != nil {
		return fmt.Errorf("process %d, %s: %w", p.pid, p.program, err)
	}
	return nil
}

// there gives an error if the process has ended.
func (p process) there() error {
	if now, ok := readProcess("/proc", p.pid); !ok || now.uid != p.uid || now.start != p.start {
		return fmt.Errorf("process %d, %s, has ended", p.pid, p.program)
	}
	return nil
}

// network identifies the network namespace of the process, as "net:[4026531840]".
func (p process) network() (string, error) {
	return networkOf("/proc", p.pid)
}

func networkOf(proc string, pid int) (string, error) {
	return os.Readlink(filepath.Join(proc, strconv.Itoa(pid), "ns", "net"))
}

// resident returns the resident memory of the process in bytes.
func (p process) resident() (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.pid))
	if err != nil {
		return 0, err
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("/proc/%d/statm: %q: want two fields or more", p.pid, b)
	}
	pages, err := strconv.ParseFloat(string(fields[1]), 64)
	return pages * float64(os.Getpagesize()), err
}

// files returns how many files the process has open.
func (p process) files() (float64, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid))
	return float64(len(entries)), err
}
