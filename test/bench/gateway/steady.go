package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// steady calls at a rate until it is stopped.
type steady struct {
	name   string
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	count tally
}

// tally is how many calls were made, how many failed, and why one of them did.
type tally struct {
	calls, failed int
	example       error
}

// minus is what has come since an earlier one.
func (t tally) minus(before tally) tally {
	t.calls, t.failed = t.calls-before.calls, t.failed-before.failed
	if t.failed == 0 {
		t.example = nil
	}
	return t
}

// callers is how many calls of a load are under way at most.
const callers = 20

func startSteady(ctx context.Context, name string, perSecond int, call func(context.Context) error) *steady {
	ctx, cancel := context.WithCancel(ctx)
	s := &steady{name: name, cancel: cancel, done: make(chan struct{})}
	burst := 20 * perSecond // late calls are made up
	limit := rate.NewLimiter(rate.Limit(perSecond), burst)
	limit.AllowN(time.Now(), burst)
	go func() {
		defer close(s.done)
		var all sync.WaitGroup
		defer all.Wait()
		for range callers {
			all.Go(func() {
				for limit.Wait(ctx) == nil {
					s.note(call(context.WithoutCancel(ctx)))
				}
			})
		}
	}()
	return s
}

func (s *steady) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count.calls++; err != nil {
		s.count.failed++
		s.count.example = fmt.Errorf("%s: %w", s.name, err)
	}
}

func (s *steady) soFar() tally {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// stop ends the load, calls under way included.
func (s *steady) stop() {
	s.cancel()
	<-s.done
}

// steadies are several.
type steadies []*steady

// soFar is the sum of all.
func (s steadies) soFar() tally {
	var sum tally
	for _, one := range s {
		t := one.soFar()
		sum.calls, sum.failed = sum.calls+t.calls, sum.failed+t.failed
		if t.example != nil {
			sum.example = t.example
		}
	}
	return sum
}

func (s steadies) stop() {
	for _, one := range s {
		one.stop()
	}
}
