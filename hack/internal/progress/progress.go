// Package progress tells the user what a long command is doing and how long
// each step took.
package progress

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"time"
)

// Log prints lines that begin with the seconds since it was made:
//
//	[  3.2s] etcd ready
type Log struct {
	w     io.Writer
	start time.Time
	tty   bool
}

// New returns a log to w.
func New(w *os.File) *Log {
	st, err := w.Stat()
	return &Log{w: w, start: time.Now(), tty: err == nil && st.Mode()&os.ModeCharDevice != 0}
}

// Printf prints one line.
func (l *Log) Printf(format string, args ...any) {
	fmt.Fprintf(l.w, "[%6.1fs] %s\n", time.Since(l.start).Seconds(), fmt.Sprintf(format, args...))
}

// Step runs f and, while it takes long, shows that it still runs: on a
// terminal with a counter, in a CI log with a line every 30 seconds.
func (l *Log) Step(what string, f func() error) error {
	l.Printf("%s ...", what)
	began := time.Now()
	done := make(chan error, 1)
	go func() { done <- f() }()

	every := 30 * time.Second
	if l.tty {
		every = time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			l.clear()
			if err == nil {
				l.Printf("%s: done in %.1f s", what, time.Since(began).Seconds())
			}
			return err
		case <-tick.C:
			if l.tty {
				fmt.Fprintf(l.w, "\r[%6.1fs] %s: %.0f s\x1b[K", time.Since(l.start).Seconds(), what, time.Since(began).Seconds())
			} else {
				l.Printf("%s: still running after %.0f s", what, time.Since(began).Seconds())
			}
		}
	}
}

func (l *Log) clear() {
	if l.tty {
		fmt.Fprint(l.w, "\r\x1b[K")
	}
}

// Tail returns the last n lines of a file, for error messages.
func Tail(path string, n int) string {
	f, err := os.Open(path)
	if err != nil {
		return "(no log: " + err.Error() + ")"
	}
	defer f.Close()
	const most = 16 << 10
	if st, err := f.Stat(); err == nil && st.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	data, _ := io.ReadAll(f)
	lines := bytes.Split(bytes.TrimRight(data, "\n"), []byte("\n"))
	lines = lines[max(0, len(lines)-n):]
	return "    " + string(bytes.Join(lines, []byte("\n    ")))
}
