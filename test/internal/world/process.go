package world

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config"
)

// Process is a running program in a network namespace. It ends with this program at the latest.
type Process struct {
	cmd *exec.Cmd
	// stopped is closed when it has been ended.
	stopped chan struct{}
}

// StartProxy runs a command in the namespace as the sidecar's user, whose connections the capture rules leave alone.
func (n NS) StartProxy(cmd *exec.Cmd) (*Process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: config.ProxyUID, Gid: config.ProxyUID}}
	return n.Start(cmd)
}

// Start runs a command in the namespace.
//
// It keeps the thread that has started the process: the process ends with its thread (Pdeathsig), and Go ends threads that a
// goroutine has changed for good. https://go.dev/issue/27505
func (n NS) Start(cmd *exec.Cmd) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	p := &Process{cmd: cmd, stopped: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := n.Do(cmd.Start)
		started <- err
		if err == nil {
			<-p.stopped
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Stop kills the process. It is called once.
func (p *Process) Stop() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	close(p.stopped)
}

// PID is the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// CPU returns the processor time that the process has had, user and system: what /proc/<pid>/stat shows
// in ticks of 10 ms, to the nanosecond.
func (p *Process) CPU() (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED of clock_getcpuclockid(3)
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^p.PID()<<3|scheduled), &ts); err != nil {
		return 0, fmt.Errorf("CPU time of %s, process %d: %w", p.cmd.Path, p.PID(), err)
	}
	return time.Duration(ts.Nano()), nil
}
