package proc

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cgroup is a control group of our own directly below the root, in every
// hierarchy of the machine (one with cgroup v2, one a controller with v1).
//
// It is also how a cluster's processes are known: all are started in it, a
// child inherits it, and containerd and the kubelet put the pods in it. So
// what a killed run left behind is found without looking at names.
type Cgroup struct {
	Name        string
	hierarchies []string
}

// systemDir is the group of the cluster's own processes; pods are beside it,
// since with cgroup v2 a group has either processes or children.
const systemDir = "system"

// OpenCgroup finds the machine's hierarchies.
func OpenCgroup(name string) (Cgroup, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Cgroup{}, err
	}
	defer f.Close()
	c := Cgroup{Name: name}
	s := bufio.NewScanner(f)
	for s.Scan() {
		if dir, ok := cgroupMount(s.Text()); ok {
			c.hierarchies = append(c.hierarchies, dir)
		}
	}
	if len(c.hierarchies) == 0 {
		return Cgroup{}, errors.New("no cgroup hierarchy is mounted below /sys/fs/cgroup")
	}
	return c, s.Err()
}

// cgroupMount returns the mount point of a line of mountinfo if it is a cgroup
// hierarchy in the usual place.
func cgroupMount(line string) (string, bool) {
	before, after, ok := strings.Cut(line, " - ")
	fields, kind := strings.Fields(before), strings.Fields(after)
	if !ok || len(fields) < 5 || len(kind) < 1 || !strings.HasPrefix(fields[4], "/sys/fs/cgroup") {
		return "", false
	}
	return fields[4], kind[0] == "cgroup" || kind[0] == "cgroup2"
}

// Create makes the group in every hierarchy.
func (c Cgroup) Create() error {
	for _, h := range c.hierarchies {
		dir := filepath.Join(h, c.Name)
		if err := os.MkdirAll(filepath.Join(dir, systemDir), 0o755); err != nil {
			return err
		}
		// A new cpuset of cgroup v1 holds no CPU and takes no process until told.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			if data, err := os.ReadFile(filepath.Join(h, file)); err == nil {
				_ = os.WriteFile(filepath.Join(dir, file), data, 0o644)
			}
		}
		// With cgroup v2 the parent has to hand its controllers down.
		if data, err := os.ReadFile(filepath.Join(h, "cgroup.controllers")); err == nil {
			for _, controller := range strings.Fields(string(data)) {
				for _, d := range []string{h, dir} {
					_ = os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
				}
			}
		}
	}
	return nil
}

// Join moves a process into the group. Only one hierarchy is needed for
// identification, and only there does it happen: pids with v1, which exists
// wherever containers run, or the single one of v2.
func (c Cgroup) Join(pid int) error {
	return os.WriteFile(filepath.Join(c.marker(), c.Name, systemDir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644)
}

func (c Cgroup) marker() string {
	for _, h := range c.hierarchies {
		if filepath.Base(h) == "pids" {
			return h
		}
	}
	return c.hierarchies[0]
}

// PIDs returns all processes of the group and its descendants, in any
// hierarchy.
func (c Cgroup) PIDs() map[int]bool {
	pids := map[int]bool{}
	c.walk(func(dir string) {
		data, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for _, f := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				pids[pid] = true
			}
		}
	})
	return pids
}

// walk visits the group's directories, children before parents.
func (c Cgroup) walk(visit func(dir string)) {
	for _, h := range c.hierarchies {
		var dirs []string
		_ = filepath.WalkDir(filepath.Join(h, c.Name), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			visit(dirs[i])
		}
	}
}

// Destroy kills every process of the group and removes it. It returns how many
// processes it killed.
func (c Cgroup) Destroy() (int, error) {
	killed := map[int]bool{}
	c.walk(func(dir string) { // a frozen process does not die
		if _, err := os.Stat(filepath.Join(dir, "freezer.state")); err == nil {
			_ = os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0o644)
		}
	})
	err := Eventually(20*time.Second, 20*time.Millisecond, func() error {
		pids := c.PIDs()
		if pids[os.Getpid()] {
			return fmt.Errorf("this process itself is in cgroup %s", c.Name)
		}
		for pid := range pids {
			killed[pid] = true
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if len(pids) > 0 {
			return fmt.Errorf("%d processes of cgroup %s do not die: %v", len(pids), c.Name, pids)
		}
		return c.remove()
	})
	return len(killed), err
}

func (c Cgroup) remove() error {
	var errs []error
	c.walk(func(dir string) {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	})
	return errors.Join(errs...)
}
