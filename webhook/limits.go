package webhook

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/mizzen-mesh/mizzen/internal/netlimit"
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

// newTurns bounds the requests that are worked on.
func newTurns() *netlimit.Limit[netip.Addr] {
	return &netlimit.Limit[netip.Addr]{All: admissionsAtOnce, Each: admissionsOfAddress, Queue: waitingOfAddress}
}
