package proc

import "testing"

func TestCgroupMount(t *testing.T) {
	for line, want := range map[string]string{
		"40 31 0:37 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids": "/sys/fs/cgroup/pids",
		"25 23 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw":           "/sys/fs/cgroup",
		"31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755":    "",
		"99 23 0:28 / /mnt/cgroup rw,relatime - cgroup cgroup rw,pids":         "",
		"nonsense": "",
	} {
		dir, ok := cgroupMount(line)
		if ok != (want != "") || ok && dir != want {
			t.Errorf("%q: got %q, %v", line, dir, ok)
		}
	}
}
