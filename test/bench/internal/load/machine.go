package load

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// Machine names the machine and says how much of it others had meanwhile: latencies mean something only
// where that is little. CPU per request suffers less.
func Machine(out io.Writer, others float64) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	path, err := world.EnvoyPath()
	if err != nil {
		return err
	}
	version, err := exec.Command(path, "--version").Output() //nolint:noctx // it ends by itself
	if err != nil {
		return fmt.Errorf("%s --version: %w", path, err)
	}
	_, version, _ = bytes.Cut(bytes.TrimSpace(version), []byte("version: "))
	_, err = fmt.Fprintf(out, "%d cores, Linux %s, Envoy %s\nOther programs used %.0f %% of the machine meanwhile.\n"+
		"CPU: all proxies on the way; each Envoy has one worker. The first two figures are at full load, latencies at a fixed rate.\n\n",
		runtime.NumCPU(), unix.ByteSliceToString(u.Release[:]), version, others*100)
	return err
}

// Usage is processor time since some start, of the machine and of this benchmark.
type Usage struct {
	at            time.Time
	machine, ours time.Duration
}

// ReadUsage reads both; the proxies are part of this benchmark.
func ReadUsage[P Proxy](proxies []P) (Usage, error) {
	u := Usage{at: time.Now()}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var r unix.Rusage
		if err := unix.Getrusage(who, &r); err != nil {
			return u, err
		}
		u.ours += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	t, err := CPU(proxies)
	if err != nil {
		return u, err
	}
	u.ours += t
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	var label string
	var user, nice, system, idle, wait, irq, softirq int64
	if _, err := fmt.Sscan(string(text), &label, &user, &nice, &system, &idle, &wait, &irq, &softirq); err != nil {
		return u, fmt.Errorf("/proc/stat: %w", err)
	}
	u.machine = time.Duration(user+nice+system+irq+softirq) * 10 * time.Millisecond // USER_HZ is 100
	return u, nil
}

// Others is the share of the machine that the rest has had since before.
func (u Usage) Others(before Usage) float64 {
	rest := (u.machine - before.machine) - (u.ours - before.ours)
	return max(0, rest.Seconds()/u.at.Sub(before.at).Seconds()/float64(runtime.NumCPU()))
}
