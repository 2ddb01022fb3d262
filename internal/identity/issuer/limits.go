package issuer

import (
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

// What one client may ask for, so that it cannot hurt the others.
const (
	// requestsPerSecond of one address for certificates, after some at once. A pod needs one; a network may
	// give all pods of a node the node's address.
	requestsPerSecond = 20
	requestsAtOnce    = 200
	// addressesKnown are those whose rate is counted; the least recently seen is forgotten first.
	addressesKnown = 4096
	// reviewsAtOnce are the tokens that the API server is asked about at a time.
	reviewsAtOnce = 64
	// requestTime bounds the work on one.
	requestTime = 10 * time.Second
	// connections of all clients, and of one address.
	connections           = 20_000
	connectionsPerAddress = 1000
	// maxHeader is the size of a request's header in bytes, with its token.
	maxHeader = maxToken + 8<<10
)

type limits struct {
	mu    sync.Mutex
	rates *simplelru.LRU[netip.Addr, *rate.Limiter]
	// reviews are those that the API server is asked for at a time.
	reviews *semaphore.Weighted
}

func newLimits() *limits {
	rates, err := simplelru.NewLRU[netip.Addr, *rate.Limiter](addressesKnown, nil)
	if err != nil {
		panic(err) // the size is not positive
	}
	return &limits{rates: rates, reviews: semaphore.NewWeighted(reviewsAtOnce)}
}

// allow tells whether an address may have one more request now.
func (l *limits) allow(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	r, ok := l.rates.Get(from)
	if !ok {
		r = rate.NewLimiter(requestsPerSecond, requestsAtOnce)
		l.rates.Add(from, r)
	}
	return r.Allow()
}
