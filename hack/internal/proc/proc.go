// Package proc runs short commands and identifies long-lived processes.
package proc

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Run runs a command for at most two minutes and returns its standard output.
// The error holds the command and what it wrote to standard error.
func Run(name string, args ...string) (string, error) {
	return RunInput("", name, args...)
}

// RunInput is Run with standard input.
func RunInput(stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, bytes.TrimSpace(errs.Bytes()))
	}
	return out.String(), nil
}

// ID names a process for good: the kernel gives a process ID to another
// process later, but not with the same start time.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks since boot, field 22 of /proc/PID/stat
}

// Of returns the identity of a running process.
func Of(pid int) (ID, error) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ID{}, err
	}
	start, state, err := parseStat(string(data))
	if err != nil {
		return ID{}, err
	}
	if state == "Z" || state == "X" {
		return ID{}, fmt.Errorf("process %d has ended", pid)
	}
	return ID{PID: pid, Start: start}, nil
}

// parseStat reads start time and state. The second field is the program's name
// in parentheses and may hold blanks and parentheses itself.
func parseStat(stat string) (start uint64, state string, err error) {
	i := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[i+1:])
	if i < 0 || len(fields) < 20 {
		return 0, "", fmt.Errorf("cannot read process stat %q", stat)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0], err
}

// Alive reports whether that very process still runs.
func (id ID) Alive() bool {
	now, err := Of(id.PID)
	return id.PID > 0 && err == nil && now == id
}

// Kill sends SIGKILL to that very process, if it still runs.
func (id ID) Kill() {
	if id.Alive() {
		_ = syscall.Kill(id.PID, syscall.SIGKILL)
	}
}

// Eventually calls f every step until it returns nil; after the limit it
// returns f's last error.
func Eventually(limit, step time.Duration, f func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(step)
	}
}
