package webhook

import (
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/mizzen-mesh/mizzen/internal/netlimit"
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

// newTurns bounds the requests that are worked on.
func newTurns() *netlimit.Limit[netip.Addr] {
	return &netlimit.Limit[netip.Addr]{All: admissionsAtOnce, Each: admissionsOfAddress, Queue: waitingOfAddress}
}
