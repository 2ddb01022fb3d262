package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// goneTime is for the kubelet and the container runtime to take away what is left of pods that are gone.
const goneTime = time.Minute

// orphans looks for what the run's pods have left when their namespace is gone.
func (s *suite) orphans(ctx context.Context) ([]check, error) {
	list, err := s.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: label})
	if err != nil {
		return nil, err
	}
	out := []check{{"namespaces that are left", fmt.Sprint(len(list.Items)), "0", len(list.Items) == 0}}
	if len(s.watch.networks) == 0 { // no pod ran on this machine
		return out, nil
	}
	var left leftovers
	err = cluster.Poll(ctx, goneTime, func(context.Context) (string, error) {
		var err error
		if left, err = findLeftovers("/proc", "/sys/fs/cgroup", s.watch.seen, s.watch.networks); err != nil {
			return "", err
		}
		return strings.Join(slices.Concat(left.processes, left.cgroups, left.networks), ", "), nil
	})
	if err != nil && len(left.processes)+len(left.cgroups)+len(left.networks) == 0 {
		return out, err
	}
	for _, l := range []struct {
		what string
		list []string
	}{{"processes of pods that are gone", left.processes}, {"cgroups of pods that are gone", left.cgroups}, {"network namespaces of pods that are gone", left.networks}} {
		out = append(out, check{l.what, strings.TrimSpace(fmt.Sprintf("%d %s", len(l.list), strings.Join(l.list, ", "))), "0", len(l.list) == 0})
	}
	return out, nil
}

// leftovers are what is left of pods, by kind.
type leftovers struct{ processes, cgroups, networks []string }

// findLeftovers looks for processes, cgroups and network namespaces of pods, which are given by UID and by network namespace.
func findLeftovers(proc, cgroups string, pods, networks map[string]string) (leftovers, error) {
	var out leftovers
	all, err := processes(proc)
	if err != nil {
		return out, err
	}
	others := map[string]bool{} // the kernel gives the number of a network namespace that is gone to a new one
	for uid, list := range all {
		if name, ok := pods[uid]; ok {
			out.processes = append(out.processes, fmt.Sprintf("%s: %d %s", name, list[0].pid, list[0].program))
		} else if network, err := networkOf(proc, list[0].pid); err == nil {
			others[network] = true
		}
	}
	err = filepath.WalkDir(cgroups, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has gone meanwhile
		}
		if err != nil || !d.IsDir() {
			return err
		}
		if match := podInCgroup.FindStringSubmatch(d.Name()); match != nil {
			if name, ok := pods[strings.ReplaceAll(match[1], "_", "-")]; ok {
				out.cgroups = append(out.cgroups, name+": "+path)
			}
			return fs.SkipDir
		}
		return nil
	})
	if err != nil {
		return out, err
	}
	found, err := networksInUse(proc)
	if err != nil {
		return out, err
	}
	for network := range maps.Keys(found) {
		if name, ok := networks[network]; ok && !others[network] {
			out.networks = append(out.networks, name+": "+network)
		}
	}
	slices.Sort(out.processes)
	slices.Sort(out.networks)
	return out, nil
}

// networksInUse are the network namespaces that a process is in, and those that are mounted somewhere: a container runtime keeps them so.
func networksInUse(proc string) (map[string]bool, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, err
	}
	out, mounts := map[string]bool{}, map[string]bool{}
	for _, e := range entries {
		dir := filepath.Join(proc, e.Name())
		if network, err := os.Readlink(filepath.Join(dir, "ns", "net")); err == nil {
			out[network] = true
		}
		// All processes of a mount namespace see the same.
		mount, err := os.Readlink(filepath.Join(dir, "ns", "mnt"))
		if err != nil || mounts[mount] {
			continue
		}
		mounts[mount] = true
		f, err := os.Open(filepath.Join(dir, "mountinfo"))
		if err != nil {
			continue // it has ended
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			// The fourth field is the root of the mount: of a namespace, "net:[4026531840]". See proc_pid_mountinfo(5).
			if fields := strings.Fields(lines.Text()); len(fields) > 3 && strings.HasPrefix(fields[3], "net:[") {
				out[fields[3]] = true
			}
		}
		f.Close()
	}
	return out, nil
}
