package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/envoytest"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

// running is an agent, a process of its own, that has started its Envoy.
type running struct {
	t    *testing.T
	addr string
	// dir has its sockets.
	dir string
	pid int
	// stop ends it; the end of the test does, too.
	stop func()
}

// startSidecar starts mizzen-proxy run, which is this test's program, with the variables and flags added.
func startSidecar(t *testing.T, env []string, flags ...string) *running {
	t.Helper()
	return startProgram(t, "/proc/self/exe", append([]string{runEnv + "=1"}, env...), flags...)
}

func startProgram(t *testing.T, program string, env []string, flags ...string) *running {
	t.Helper()
	addr := listentest.FreeAddress(t)
	dir := t.TempDir()
	cmd := exec.Command(program, append([]string{
		"run", "--envoy=" + envoytest.Path(t), "--dir=" + dir, "--keep-dir=" + dir, "--listen=" + addr,
	}, flags...)...)
	cmd.Env = append([]string{
		"POD_NAME=cart-1", "POD_NAMESPACE=shop", "POD_UID=0c5a", "SERVICE_ACCOUNT=cart", "POD_IPS=127.0.0.1",
	}, env...)
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	return &running{t: t, addr: addr, dir: dir, pid: cmd.Process.Pid, stop: stop}
}

func (s *running) url(path string) string { return "http://" + s.addr + path }

// envoy is the process of the agent's only child.
func (s *running) envoy() int {
	s.t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.pid))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		if child, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			return child
		}
	}
	s.t.Fatal("the agent has no child, or several")
	return 0
}

// usage is what processes have taken.
type usage struct {
	cpu time.Duration
	// runs is how often one of their threads has got a CPU.
	runs int
}

func (u usage) minus(before usage) usage { return usage{u.cpu - before.cpu, u.runs - before.runs} }
func (u usage) plus(other usage) usage   { return usage{u.cpu + other.cpu, u.runs + other.runs} }

// usageOf adds up the threads of a process. https://docs.kernel.org/scheduler/sched-stats.html
func usageOf(t *testing.T, pid int) (sum usage) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		var ran, waited, runs int
		if _, err := fmt.Sscan(string(b), &ran, &waited, &runs); err != nil {
			t.Fatalf("%s: %q: %v", file, b, err)
		}
		sum = sum.plus(usage{time.Duration(ran), runs})
	}
	return sum
}
