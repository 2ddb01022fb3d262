package agent

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// cgroups is where a container finds its own.
const cgroups = "/sys/fs/cgroup"

// containerLimit returns the memory limit of the container in bytes, or 0 without one.
// https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files
// https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
func containerLimit(dir string) uint64 {
	for _, file := range []string{"memory.max", "memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue
		}
		limit, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
		if err != nil || limit >= noLimit {
			return 0
		}
		return limit
	}
	return 0
}

// noLimit is below the number that means none in version 1 of cgroups, and above every machine's memory.
const noLimit = 1 << 62

// oomKills returns how many processes of the container the kernel has killed because of its memory limit, or 0 if that is not known.
// Where it kills the container as a whole, as the kubelet asks for with version 2 of cgroups, nobody is left to ask.
func oomKills(dir string) uint64 {
	for _, file := range []string{"memory.events", "memory/memory.oom_control"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) == 2 && fields[0] == "oom_kill" {
				n, err := strconv.ParseUint(fields[1], 10, 64)
				if err == nil {
					return n
				}
			}
		}
	}
	return 0
}
