package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// step is one line of progress.
type step struct {
	name string
	do   func(ctx context.Context, say func(string)) error
}

// terminal shows steps: a live line where somebody watches, plain lines where a file does.
type terminal struct {
	out          io.Writer
	live, colour bool
	// pulse is how often a long step says that it still runs.
	pulse time.Duration
}

func newTerminal(f *os.File) *terminal {
	t := &terminal{out: f, live: term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"}
	// https://no-color.org: any value that is not empty.
	t.colour = t.live && os.Getenv("NO_COLOR") == ""
	t.pulse = 10 * time.Second
	if t.live {
		t.pulse = 100 * time.Millisecond
	}
	return t
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

func (t *terminal) print(s string) { fmt.Fprint(t.out, s) }

// run carries out a step and shows how long it has been at it.
func (t *terminal) run(ctx context.Context, s step) error {
	start := time.Now()
	var mu sync.Mutex
	detail := ""
	say := func(d string) {
		mu.Lock()
		defer mu.Unlock()
		detail = d
	}
	done := make(chan error, 1)
	go func() { done <- s.do(ctx, say) }()
	tick := time.NewTicker(t.pulse)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			t.finish(s, err, time.Since(start))
			return err
		case <-tick.C:
			mu.Lock()
			t.progress(s, detail, time.Since(start))
			mu.Unlock()
		}
	}
}

func (t *terminal) progress(s step, detail string, elapsed time.Duration) {
	if detail != "" {
		detail = " · " + detail
	}
	begin, end := "", "\n"
	if t.live {
		begin, end = "\r\x1b[K", ""
	}
	fmt.Fprintf(t.out, "%s… %6.1f s  %s%s%s", begin, elapsed.Seconds(), s.name, detail, end)
}

func (t *terminal) finish(s step, err error, elapsed time.Duration) {
	mark := paint(t.colour, green, "✓")
	if err != nil {
		mark = paint(t.colour, red, "✗")
	}
	begin := ""
	if t.live {
		begin = "\r\x1b[K"
	}
	fmt.Fprintf(t.out, "%s%s %6.1f s  %s\n", begin, mark, elapsed.Seconds(), s.name)
}
