package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// machineCPU is what the whole machine and this process have used, in CPU seconds. What of a measured time
// neither the control plane nor the proxies account for, others took: a shared machine is no excuse
// that cannot be seen.
func machineCPU() (all, own float64, err error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := strings.Cut(string(b), "\n")
	const idle, iowait, guest, ticks = 3, 4, 8, 100 // fields after "cpu", and USER_HZ
	for i, field := range strings.Fields(line)[1:] {
		v, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("/proc/stat: %q: %w", line, err)
		}
		if i != idle && i != iowait && i < guest {
			all += v / ticks
		}
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, 0, err
	}
	return all, time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds(), nil
}
