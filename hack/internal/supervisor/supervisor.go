// Package supervisor keeps the components of a cluster running. It is a process
// of its own, inside the node's network namespace and a mount namespace that
// ends with the cluster, so no mount of the kubelet's or containerd's is ever
// seen by the host or outlives a killed run.
package supervisor

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/mizzen-mesh/mizzen/hack/internal/components"
	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
)

// A component that exits is started again after a pause that doubles, and
// starts anew once it has run for a while.
const (
	firstPause = 200 * time.Millisecond
	longPause  = 10 * time.Second
	ranWell    = 30 * time.Second
)

// Run is the supervisor's main function. It returns when the process is told
// to end, after telling its components.
func Run(specFile string) error {
	spec, err := ReadJSON[Spec](specFile)
	if err != nil {
		return err
	}
	// First of all: from here on a later run finds us and our children.
	cgroup, err := proc.OpenCgroup(spec.Layout.Cgroup())
	if err != nil {
		return err
	}
	if err := cgroup.Join(os.Getpid()); err != nil {
		return err
	}
	if err := mounts(spec.Layout); err != nil {
		return err
	}
	self, err := proc.Of(os.Getpid())
	if err != nil {
		return err
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s := &supervisor{spec: spec, status: Status{Supervisor: self}, ready: map[string]chan struct{}{}}
	for _, c := range spec.Components {
		s.ready[c.Name] = make(chan struct{})
		s.status.Components = append(s.status.Components, ComponentStatus{Name: c.Name})
	}
	s.update(0, func(*ComponentStatus) {})
	var wg sync.WaitGroup
	for i := range spec.Components {
		wg.Go(func() { s.keep(ctx, i) })
	}
	wg.Wait()
	return nil
}

// mounts puts directories of the cluster where programs have paths built in.
func mounts(l layout.Layout) error {
	// Shared within this namespace, as the kubelet wants for mount propagation;
	// unshare(1) has cut the way back to the host.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_SHARED, ""); err != nil {
		return fmt.Errorf("share mounts: %w", err)
	}
	for target, source := range map[string]string{
		"/var/lib/kubelet": l.State("node", "kubelet"),  // device plugins, volumes
		"/var/lib/cni":     l.State("node", "cni"),      // results of CNI plugins
		"/var/log":         l.State("node", "log"),      // pods, containers
		"/run/containerd":  l.Run("containerd-default"), // sockets of the shims
	} {
		for _, dir := range []string{target, source} {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s to %s: %w", source, target, err)
		}
	}
	return nil
}

type supervisor struct {
	spec  Spec
	ready map[string]chan struct{} // closed when ready for the first time

	mu     sync.Mutex
	status Status
}

// update changes the status of component i and writes it out.
func (s *supervisor) update(i int, change func(*ComponentStatus)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.status.Components[i])
	if err := WriteJSON(StatusFile(s.spec.Layout), s.status); err != nil {
		logf("write status: %v", err)
	}
}

// keep runs component i, again and again, until ctx ends.
func (s *supervisor) keep(ctx context.Context, i int) {
	c := s.spec.Components[i]
	for _, a := range c.After {
		select {
		case <-s.ready[a]:
		case <-ctx.Done():
			return
		}
	}
	pause := firstPause
	for ctx.Err() == nil {
		began := time.Now()
		err := s.once(ctx, i)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > ranWell {
			pause = firstPause
		}
		logf("%s ended after %.1f s (%v), starting it again in %s", c.Name, time.Since(began).Seconds(), err, pause)
		s.update(i, func(st *ComponentStatus) {
			st.PID, st.Ready, st.LastExit = 0, false, fmt.Sprint(err)
			st.Restarts++
		})
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
		pause = min(2*pause, longPause)
	}
}

// once runs a component until it ends.
func (s *supervisor) once(ctx context.Context, i int) error {
	c := s.spec.Components[i]
	log, err := os.OpenFile(s.spec.Layout.LogFile(c.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + s.spec.PATH, "HOME=" + s.spec.Layout.State("node"), "MIZZEN_CLUSTER=" + s.spec.Layout.ID}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		return err
	}
	s.update(i, func(st *ComponentStatus) { st.PID, st.Started = cmd.Process.Pid, time.Now() })

	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { s.awaitReady(i, ended) })
	err = cmd.Wait()
	close(ended)
	wg.Wait()
	return err
}

// awaitReady probes a started component until it is ready or has ended.
func (s *supervisor) awaitReady(i int, ended <-chan struct{}) {
	c := s.spec.Components[i]
	for !probe(c.Ready) {
		select {
		case <-ended:
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
	s.update(i, func(st *ComponentStatus) { st.Ready = true })
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.ready[c.Name]:
	default:
		close(s.ready[c.Name])
	}
}

var prober = http.Client{
	Timeout: 2 * time.Second,
	Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // see components.Probe
		DisableKeepAlives: true,
	},
}

func probe(p components.Probe) bool {
	if p.Socket != "" {
		conn, err := net.Dial("unix", p.Socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}
	resp, err := prober.Get(p.URL)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// logf writes to the supervisor's own log, its standard error.
func logf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s: %s\n", time.Now().Format(time.RFC3339), filepath.Base(os.Args[0]), fmt.Sprintf(format, args...))
}
