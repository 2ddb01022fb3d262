package agent

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// listenerDrainTime is how long Envoy keeps connections alive that belong to a listener or filter chain
// which an update replaced. After it they are cut, also in mid-use, so it is long: a database
// connection must survive an upgrade of the control plane. It does not delay the end of the pod,
// where the agent stops Envoy itself.
const listenerDrainTime = 24 * time.Hour

// logFormat makes Envoy's lines look like the agent's. %j is the message escaped as in JSON.
const logFormat = `time=%Y-%m-%dT%T.%e%z level=%l source=envoy.%n msg="%j"`

// ExitError says that Envoy ended by itself.
type ExitError struct {
	// Code is what the agent should exit with: Envoy's own code, or 128 + the signal, never 0.
	Code int
	how  string
}

func (e *ExitError) Error() string { return "Envoy ended by itself: " + e.how }

// envoyProcess is a running Envoy.
type envoyProcess struct {
	cmd *exec.Cmd
	// done is closed once Envoy has ended and been reaped; status may be read from then on.
	done   chan struct{}
	status syscall.WaitStatus
}

func envoyArgs(s Settings) []string {
	args := []string{
		"-c", s.bootstrapFile(),
		"-l", s.LogLevel,
		"--log-format", logFormat,
		// One Envoy at a time. Hot restart would need shared memory.
		"--disable-hot-restart",
		"--drain-time-s", strconv.Itoa(int(listenerDrainTime.Seconds())),
		// Do not drain gradually at the end of a pod: send all clients elsewhere with the next response.
		"--drain-strategy", "immediate",
		// Flush access logs soon, for refused calls; by default their lines come up to 10 s later.
		"--file-flush-interval-msec", "1000",
	}
	if s.Concurrency > 0 {
		args = append(args, "--concurrency", strconv.Itoa(s.Concurrency))
	}
	return args
}

// startEnvoy starts the child. Its output goes where the agent's goes.
func startEnvoy(s Settings) (*envoyProcess, error) {
	p := &envoyProcess{cmd: exec.Command(s.EnvoyPath, envoyArgs(s)...), done: make(chan struct{})} //nolint:noctx // Envoy outlives the context, to drain
	p.cmd.Stdout, p.cmd.Stderr = os.Stdout, os.Stderr
	// Envoy must not outlive the agent.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The signal is sent when the thread that forked ends, not the process, so that thread has to
		// be kept: https://go.dev/issue/27505
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.status = reap(p.cmd.Process.Pid)
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start Envoy: %w", err)
	}
	return p, nil
}

// reap waits for the child. As process 1 of its container, the agent also inherits orphans (of `kubectl exec`, for
// example) and must reap them, so it waits for any process. It starts no other child whose status anybody needs.
func reap(child int) syscall.WaitStatus {
	target := child
	if os.Getpid() == 1 {
		target = -1
	}
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(target, &status, 0, nil)
		if pid == child || (err != nil && err != syscall.EINTR) {
			return status
		}
	}
}

// stop ends Envoy with SIGTERM and, after the grace time, with SIGKILL.
func (p *envoyProcess) stop(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // fails only where Envoy has ended
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// exitError describes an unexpected end.
func (p *envoyProcess) exitError() *ExitError {
	if p.status.Signaled() {
		return &ExitError{Code: 128 + int(p.status.Signal()), how: "killed by signal: " + p.status.Signal().String()}
	}
	code := p.status.ExitStatus()
	return &ExitError{Code: max(code, 1), how: fmt.Sprintf("exit status %d", code)}
}
