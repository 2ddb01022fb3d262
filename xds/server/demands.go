package server

import (
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// repeats are the times after the answer to a demand at which it is given again. Envoy says a demand once in a stream. A
// thread of Envoy that looks at its routes before they come, and asks after the answer has come, waits for an answer to
// nothing. A busy machine may hold up a thread that long.
var repeats = []time.Duration{250 * time.Millisecond, 2 * time.Second}

// demands decides which scopes one proxy has: those that it has asked for (envoy.DemandOf), and those that are preloaded.
// A proxy asks at the first request to a destination. That request waits until the demand is answered, which it is when
// the scope and its routes have been sent. From then on the proxy has both until it disconnects, because it does not ask
// again. The answer is the same whether the destination has routes or not: the cluster that was asked for does not exist.
type demands struct {
	store   *Store
	subs    *subscriptions
	preload *preload
	// asked are the destinations that the proxy has asked for, open those that wait for an answer, answered those that have had
	// one.
	asked, open, answered set
	// again are answers to repeat. timer fires at the time of the first of them.
	again []repetition
	timer *time.Timer
}

type repetition struct {
	at       time.Time
	clusters []string
}

func newDemands(store *Store) demands {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return demands{store: store, timer: timer}
}

// ask notes that the proxy asks for the scope of a destination.
func (d *demands) ask(destination string) {
	d.asked.add(destination)
	d.open.add(destination)
	if scopes := d.scopes(); scopes != nil {
		d.subs.needOnRequest(scopes, destination)
		scopes.dirty.add(destination) // needed before, it may have gone before it was sent
	}
}

// begin is called when the proxy subscribes to scopes. What it asked for before was in an earlier stream.
func (d *demands) begin(scopes *subscription) {
	d.subs.needOnRequest(scopes, envoy.AskScope)
	for destination := range d.asked {
		d.subs.needOnRequest(scopes, destination)
	}
	for destination := range d.preload.scopes() {
		d.subs.needOnRequest(scopes, destination)
	}
}

// changed keeps the scopes in step with the routes of a destination. A scope without routes goes, unless the proxy has
// asked for it.
func (d *demands) changed(destination string) {
	scopes, id := d.scopes(), envoy.ID{Type: envoy.RouteType, Name: destination}
	switch {
	case scopes == nil:
	case scopes.needed.has(destination):
		scopes.dirty.add(destination)
	case d.preload.includes(id):
		d.subs.need(scopes, destination)
	}
}

// wants reports whether the proxy is to have a scope.
func (d *demands) wants(scope string) bool {
	return d.asked.has(scope) || scope == envoy.AskScope || d.store.record(envoy.ID{Type: envoy.RouteType, Name: scope}) != nil
}

// scopes returns the proxy's subscription to all scopes, or nil.
func (d *demands) scopes() *subscription {
	if sub := d.subs.of(envoy.ScopedRouteType); sub != nil && sub.all {
		return sub
	}
	return nil
}

// answers returns the clusters to say of now that they do not exist: those of open demands whose scope and routes have
// been sent, and those to repeat. Responses keep their order in Envoy, so an answer need not wait for the acknowledgement
// of the routes.
func (d *demands) answers(now time.Time) []string {
	var clusters []string
	for len(d.again) > 0 && !d.again[0].at.After(now) {
		clusters = append(clusters, d.again[0].clusters...)
		d.again = d.again[1:]
	}
	var first []string
	for _, destination := range d.open.sorted() {
		if !d.sent(destination) {
			continue
		}
		d.open.remove(destination)
		clusters = append(clusters, envoy.Demand(destination))
		if !d.answered.has(destination) {
			d.answered.add(destination)
			first = append(first, envoy.Demand(destination))
		}
	}
	if len(first) > 0 {
		for _, after := range repeats {
			d.repeat(repetition{now.Add(after), first})
		}
	}
	if len(d.again) > 0 {
		d.timer.Reset(time.Until(d.again[0].at))
	}
	return clusters
}

// repeat adds an answer to those to repeat, which are in the order of their time.
func (d *demands) repeat(r repetition) {
	i := len(d.again)
	for i > 0 && d.again[i-1].at.After(r.at) {
		i--
	}
	d.again = append(d.again[:i], append([]repetition{r}, d.again[i:]...)...)
}

// sent reports whether the proxy was sent the scope of a destination, has asked for the routes, and has nothing left to hear
// of them. It may have asked for routes of a scope that is on its way out, which it gives up as soon as it hears of that.
func (d *demands) sent(destination string) bool {
	scopes, routes := d.scopes(), d.subs.of(envoy.RouteType)
	if scopes == nil || routes == nil {
		return false
	}
	_, has := scopes.sent[destination]
	return has && routes.names.has(destination) && !routes.dirty.has(destination)
}
