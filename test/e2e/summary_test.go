package e2e

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/figures"
)

// figuresSeen collects what was measured, for the table at the end.
var figuresSeen figureLog

type figureLog struct {
	mu   sync.Mutex
	rows [][]string
}

// figure records a measured value beside what it may be. It asserts nothing: the caller does.
func figure(t *testing.T, what, value, limit string) {
	t.Helper()
	t.Logf("%s: %s (%s)", what, value, limit)
	figuresSeen.mu.Lock()
	defer figuresSeen.mu.Unlock()
	figuresSeen.rows = append(figuresSeen.rows, []string{t.Name(), what, value, limit})
}

func (l *figureLog) table() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.rows) == 0 {
		return ""
	}
	return "\n" + figures.Table([]string{"test", "figure", "measured", "allowed"}, l.rows)
}

// timings collects what took how long, for CI's budget.
var timings timingLog

type timingLog struct {
	mu   sync.Mutex
	rows [][]string
	sum  time.Duration
}

func (l *timingLog) add(what string, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sum += took
	l.rows = append(l.rows, []string{what, fmt.Sprintf("%6.1f s", took.Seconds())})
}

// table lists every part. Some ran side by side, so the sum is more than the time on the clock.
func (l *timingLog) table() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	rows := append(slices.Clone(l.rows), nil, []string{"sum of all parts", fmt.Sprintf("%6.1f s", l.sum.Seconds())})
	return "\n" + figures.Table([]string{"part", "took"}, rows)
}
