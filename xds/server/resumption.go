package server

import (
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// resumeTime is how long nothing is removed from a proxy that comes back. It lists what it holds one type after the
// other, and a type that it has not listed yet may refer to what is gone.
const resumeTime = time.Second

// resumption takes over what a proxy holds from an earlier stream.
type resumption struct {
	lookup  *lookup
	subs    *subscriptions
	warming *warming
	wait    time.Duration
	// began is set once the proxy has said that it holds something.
	began bool
	// over fires when the proxy has had the time to list everything. It is nil before began and after it has fired.
	over <-chan time.Time
}

// active reports whether the proxy may still have to list something.
func (r *resumption) active() bool { return r.over != nil }

// expectsScopes reports whether the proxy has not listed its scopes yet. A gateway has none.
func (r *resumption) expectsScopes() bool {
	return !r.lookup.node.Gateway && r.active() && r.subs.of(envoy.ScopedRouteType) == nil
}

// end is called when over has fired.
func (r *resumption) end() {
	r.over = nil
	r.warming.resumed()
}

// take takes over the versions of one type.
func (r *resumption) take(sub *subscription, versions map[string]string) {
	if !r.began {
		r.began, r.over = true, time.After(r.wait)
	}
	for name, version := range versions {
		if sub.typeURL == envoy.ScopedRouteType && !isScope(name, version) {
			continue // one of an older control plane (envoy/legacy.go): the proxy keeps it
		}
		if sub.typeURL == envoy.VirtualHostType {
			if !r.subs.virtualHosts.of.has(collectionOf(name)) {
				sub.askAgain(name) // it is called gone, unless the proxy still subscribes to its route configuration
				continue
			}
			version = "" // Envoy lists what it was sent for earlier route configurations of this name, too, and may not have it in this one
		}
		id := envoy.ID{Type: sub.typeURL, Name: name}
		e := r.lookup.entry(id)
		if e != nil && e.version == version {
			version = e.version // the same string for all proxies
		} else if len(version) > maxVersion {
			version = "" // not one of ours; it only has to differ
		}
		r.warming.brought(sub.typeURL, name, e)
		sub.sent[name] = version
		sub.dirty.add(name)
		if sub.all { // even without such a resource: it may come back before the proxy hears that it is gone
			r.subs.need(sub, name)
		}
	}
}
