package netlimit

import (
	"context"
	"math"
	"net/netip"
	"sync"

	"golang.org/x/sync/semaphore"
)

// Client returns the address of a client from what net/http or net.Addr say of it, "<address>:<port>". It is
// the zero Addr if there is none in it.
func Client(remote string) netip.Addr {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	return from.Addr().Unmap().WithZone("")
}

// Limit bounds what clients do at a time: each one, and all together. K tells clients apart. The fields do not change
// once it is used, and 0 is no bound.
type Limit[K comparable] struct {
	// All and Each are the most places that all clients and one client may have.
	All, Each int
	// Queue is how many of one client may have a place or wait for one.
	Queue int

	mu      sync.Mutex
	all     *semaphore.Weighted
	clients map[K]*client // one that has no place and waits for none has no entry
	n       int
}

type client struct {
	places *semaphore.Weighted
	n      int // that have a place or wait for one
}

// Try takes a place if there is one. leave, which may be called more than once, gives it back.
func (l *Limit[K]) Try(k K) (leave func(), ok bool) {
	return l.enter(k, func(s *semaphore.Weighted) bool { return s.TryAcquire(1) })
}

// Wait takes a place of the client's, then one of all, as soon as there is one. ok is false if ctx ends before, or if
// the client has too many in its queue.
func (l *Limit[K]) Wait(ctx context.Context, k K) (leave func(), ok bool) {
	return l.enter(k, func(s *semaphore.Weighted) bool { return s.Acquire(ctx, 1) == nil })
}

// Len is the number of those that have a place or wait for one.
func (l *Limit[K]) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.n
}

func (l *Limit[K]) enter(k K, acquire func(*semaphore.Weighted) bool) (leave func(), ok bool) {
	c, ok := l.join(k)
	if !ok {
		return nil, false
	}
	if acquire(c.places) {
		if acquire(l.all) {
			return sync.OnceFunc(func() {
				l.all.Release(1)
				c.places.Release(1)
				l.quit(k, c)
			}), true
		}
		c.places.Release(1)
	}
	l.quit(k, c)
	return nil, false
}

func (l *Limit[K]) join(k K) (*client, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.clients == nil {
		l.clients, l.all = map[K]*client{}, places(l.All)
	}
	c := l.clients[k]
	if c == nil {
		c = &client{places: places(l.Each)}
		l.clients[k] = c
	}
	if l.Queue > 0 && c.n >= l.Queue {
		return nil, false
	}
	c.n++
	l.n++
	return c, true
}

func (l *Limit[K]) quit(k K, c *client) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.n--
	if c.n--; c.n == 0 {
		delete(l.clients, k)
	}
}

func places(n int) *semaphore.Weighted {
	if n == 0 {
		return semaphore.NewWeighted(math.MaxInt64)
	}
	return semaphore.NewWeighted(int64(n))
}
