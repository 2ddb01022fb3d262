package xds

import (
	"context"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// renewalDelay is how long sidecars have to take new policies before callers connect anew. One that takes longer goes
// on judging the connections that it has by the old ones.
const renewalDelay = 5 * time.Second

// renewals make callers connect anew when the policies of the pods that they call have changed. Connections are judged
// when they are made, and sidecars keep theirs for as long as they can. Their requests end as they are.
type renewals struct {
	delay time.Duration
	// published is what is said of each Service, due when it is to be said anew.
	published map[mesh.Key]string
	due       map[mesh.Key]time.Time
	timer     *time.Timer
}

func newRenewals() *renewals {
	r := &renewals{
		delay: renewalDelay, timer: time.NewTimer(time.Hour), published: map[mesh.Key]string{}, due: map[mesh.Key]time.Time{},
	}
	r.timer.Stop()
	return r
}

// later renews the connections to Services after the delay, counted from the last change: it is no renewal of what was
// judged before the sidecars have that.
func (r *renewals) later(services sets.Set[mesh.Key]) {
	for key := range services {
		r.due[key] = time.Now().Add(r.delay)
	}
	r.wind()
}

func (r *renewals) wind() {
	var first time.Time
	for _, at := range r.due {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if !first.IsZero() {
		r.timer.Reset(time.Until(first))
	}
}

// policiesBehind tells the policies of a Service's pods from others; it stays as it was until a renewal is due.
func (c *Controller) policiesBehind(service mesh.Key) string {
	r := c.renewals
	if _, waits := r.due[service]; !waits {
		var all []string
		for _, key := range c.depend.refs[service].pods {
			if pod := c.pods.Get(key); pod != nil {
				all = append(all, c.inbounds.judged[podID(pod)])
			}
		}
		slices.Sort(all)
		r.published[service] = strings.Trim(strings.Join(slices.Compact(all), " "), " ")
	}
	return r.published[service]
}

// renew builds the Services whose time has come.
func (c *Controller) renew(ctx context.Context) {
	now := time.Now()
	for key, at := range c.renewals.due {
		if !at.After(now) {
			delete(c.renewals.due, key)
			if c.services[key] != nil {
				c.hold(key)
			}
		}
	}
	c.renewals.wind()
	if c.waiting() {
		c.publishHeld(ctx)
	}
}
