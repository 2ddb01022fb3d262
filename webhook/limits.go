package webhook

import (
	"context"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// What one client may ask for, so that it cannot hurt the others. API servers are few, need many admissions
// at a time and show no certificate, so a stranger looks like one of them.
const (
	// maxBody is what controller-runtime allows too: two objects of at most 3 MB each and 1 MB for the rest.
	maxBody = 7 << 20
	// bodyTime is how long a body may take once it is its turn.
	bodyTime = 5 * time.Second
	// turnTime is how long a request waits for its turn; the API server itself waits for 10 s.
	turnTime = 5 * time.Second
	// admissionsAtOnce are worked on, with their bodies in memory.
	admissionsAtOnce = 64
	// admissionsOfAddress leaves turns to others.
	admissionsOfAddress = admissionsAtOnce / 2
	// waitingOfAddress wait for theirs; one more is refused at once.
	waitingOfAddress = 1000
)

// What strangers can make the control plane write.
func newLogLimit() *rate.Limiter   { return rate.NewLimiter(5, 20) }
func newEventLimit() *rate.Limiter { return rate.NewLimiter(5, 200) }

// turns bounds the requests that are worked on.
type turns struct {
	all chan struct{}
	mu  sync.Mutex
	of  map[string]*queue // by address; one without requests has none
}

type queue struct {
	turns    chan struct{}
	requests int // that wait or have their turn
}

func newTurns() *turns {
	return &turns{all: make(chan struct{}, admissionsAtOnce), of: map[string]*queue{}}
}

// enter waits for a turn. leave ends it; ok is false if there are too many.
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
