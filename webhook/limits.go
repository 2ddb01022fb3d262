package webhook

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits for one client, so that it cannot harm the others. There are few API servers; each needs many admissions at a
// time and sends no certificate, so any client looks like one of them.
const (
	// maxBody is the limit of controller-runtime, too: two objects of at most 3 MB each and 1 MB for the rest.
	maxBody = 7 << 20
	// bodyTime is how long a body may take once the request has its turn.
	bodyTime = 5 * time.Second
	// turnTime is how long a request waits for its turn; the API server itself waits for 10 s.
	turnTime = 5 * time.Second
	// admissionsAtOnce is the number of admissions in progress, with their bodies in memory.
	admissionsAtOnce = 64
	// admissionsOfAddress is the number of them for one address, so that others get turns.
	admissionsOfAddress = admissionsAtOnce / 2
	// waitingOfAddress is the number of an address's requests that wait for a turn; further ones are refused at once.
	waitingOfAddress = 1000
)

// Limits of what any client can make the control plane write.
func newLogLimit() *rate.Limiter   { return rate.NewLimiter(5, 20) }
func newEventLimit() *rate.Limiter { return rate.NewLimiter(5, 200) }

// turns bounds the requests in progress.
type turns struct {
	all chan struct{}
	mu  sync.Mutex
	of  map[string]*queue // by address; an address without requests has no entry
}

type queue struct {
	turns    chan struct{}
	requests int // waiting or in progress
}

func newTurns() *turns {
	return &turns{all: make(chan struct{}, admissionsAtOnce), of: map[string]*queue{}}
}

// enter waits for a turn, which leave ends. ok is false if too many requests wait.
func (t *turns) enter(ctx context.Context, remote string) (leave func(), ok bool) {
	address, _, err := net.SplitHostPort(remote)
	if err != nil {
		address = remote
	}
	q, ok := t.join(address)
	if !ok {
		return nil, false
	}
	ctx, cancel := context.WithTimeout(ctx, turnTime)
	defer cancel()
	select {
	case q.turns <- struct{}{}:
	case <-ctx.Done():
		t.quit(address, q)
		return nil, false
	}
	select {
	case t.all <- struct{}{}:
	case <-ctx.Done():
		<-q.turns
		t.quit(address, q)
		return nil, false
	}
	return func() { <-t.all; <-q.turns; t.quit(address, q) }, true
}

func (t *turns) join(address string) (*queue, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.of[address]
	if q == nil {
		q = &queue{turns: make(chan struct{}, admissionsOfAddress)}
		t.of[address] = q
	}
	if q.requests == waitingOfAddress {
		return nil, false
	}
	q.requests++
	return q, true
}

func (t *turns) quit(address string, q *queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if q.requests--; q.requests == 0 {
		delete(t.of, address)
	}
}
