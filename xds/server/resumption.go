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
	store   *Store
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
	if sub.follows() {
		r.follow(sub, versions)
		return
	}
	for name, version := range versions {
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

// follow finds the differences between what a proxy holds of a followed type and what exists.
func (r *resumption) follow(sub *subscription, versions map[string]string) {
	records, now, _ := r.store.since(sub.typeURL, 0)
	held := 0
	for _, rec := range records {
		version, has := versions[rec.name]
		switch {
		case !rec.live():
			continue
		case has:
			held++
		}
		// A scope is not sent again only because the other of its two forms, on demand or preloaded, would fit now.
		if has && !rec.hasVersion(version) || !has && !rec.lazy {
			sub.dirty.add(rec.name)
		}
	}
	sub.added, sub.removed = now, now
	if held == len(versions) {
		return
	}
	for name := range versions {
		if r.store.record(envoy.ID{Type: sub.typeURL, Name: name}) == nil {
			sub.dirty.add(name)
		}
	}
}
