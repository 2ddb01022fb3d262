package server

import (
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// delta works out the difference between what a proxy was sent of a type and what it is to have. What it returns
// counts as sent.
type delta struct {
	store      *Store
	lookup     *lookup
	subs       *subscriptions
	absents    *absents
	pending    *pending
	ordering   *ordering
	resumption *resumption
}

// errLater says that there is a change whose names are still pending. That change has woken the stream.
var errLater = errors.New("later")

// additions takes from the dirty names, and from what has changed since the last time, everything that is new for the
// proxy, and the answers to names that do not exist. Names that are gone stay dirty, for removals. It stops where a
// response is large enough; the rest stays dirty.
func (d *delta) additions(sub *subscription) (set []*entry, missing []string, err error) {
	if sub.follows() {
		return d.followedAdditions(sub)
	}
	size := 0
	for _, name := range sub.dirty.sorted() {
		if size > maxResponse {
			break
		}
		id := envoy.ID{Type: sub.typeURL, Name: name}
		asked := sub.asked.has(name)
		version, has := sub.sent[name]
		if !sub.wants(name) {
			if !has {
				sub.dirty.remove(name)
			}
			continue
		}
		e := d.lookup.entry(id)
		if e != nil {
			d.absents.forget(name)
		} else {
			if d.lookup.watches.awaits(id) {
				continue
			}
			if has && !asked && d.resumption.active() {
				continue // this replica may be a moment behind the one that the proxy comes from
			}
			e = d.absents.answer(sub, name, d.subs.scoped())
		}
		if e != nil && sub.typeURL == envoy.RouteType && !d.ordering.ready(e) {
			continue
		}
		if e == nil {
			if has && !asked {
				continue
			}
			if asked {
				missing = append(missing, name)
			}
			delete(sub.sent, name)
		} else if asked || !has || version != e.version {
			set = append(set, e)
			size += e.wire.Len()
			sub.sent[name] = e.version
		}
		sub.done(name)
	}
	return set, missing, nil
}

// followedAdditions returns everything in one response: a proxy takes its first answer as complete.
func (d *delta) followedAdditions(sub *subscription) (set []*entry, missing []string, err error) {
	records, now, err := d.since(sub, sub.added)
	if err != nil {
		return nil, nil, err
	}
	if sub.added == 0 {
		sub.removed = now // the proxy had nothing before
	}
	sub.added = now
	set = make([]*entry, 0, len(records))
	p := d.lookup.preload.now()
	for _, r := range records {
		if r.lazy {
			continue
		}
		if e := d.lookup.pick(sub.typeURL, r, p); e != nil {
			set = append(set, e)
			sub.done(r.name)
		}
	}
	for _, name := range sub.dirty.sorted() {
		e := d.lookup.pick(sub.typeURL, d.store.record(envoy.ID{Type: sub.typeURL, Name: name}), p)
		switch {
		case e != nil:
			set = append(set, e)
		case sub.asked.has(name):
			missing = append(missing, name)
		default:
			continue
		}
		sub.done(name)
	}
	return set, missing, nil
}

// removals takes from the dirty names, and from what has changed since the last time, everything that the proxy has and
// must not have any more.
func (d *delta) removals(sub *subscription) (gone []string, err error) {
	if sub.follows() {
		records, now, err := d.since(sub, sub.removed)
		if err != nil {
			return nil, err
		}
		sub.removed = now
		for _, r := range records {
			if !r.live() {
				sub.dirty.add(r.name)
			}
		}
	}
	for _, name := range sub.dirty.sorted() {
		if d.lookup.exists(envoy.ID{Type: sub.typeURL, Name: name}) || !sub.follows() && d.absents.answer(sub, name, d.subs.scoped()) != nil {
			if sub.follows() {
				sub.dirty.remove(name)
			}
			continue // it has come back: an addition
		}
		sub.dirty.remove(name)
		if _, has := sub.sent[name]; has || sub.follows() {
			delete(sub.sent, name)
			gone = append(gone, name)
		}
		if sub.typeURL != envoy.ClusterType || !d.subs.referred(name) {
			d.subs.release(sub, name)
		}
	}
	return gone, nil
}

// since returns the records of a followed type that changed after a revision, and the revision to continue from. An
// error other than errLater ends the stream: the proxy comes back with a list of what it has.
func (d *delta) since(sub *subscription, revision uint64) ([]*record, uint64, error) {
	records, now, ok := d.store.since(sub.typeURL, revision)
	switch {
	case !ok:
		return nil, 0, status.Errorf(codes.Aborted, "%s: too far behind", shortType(sub.typeURL))
	case now > d.pending.seen:
		return nil, 0, errLater
	}
	return records, now, nil
}
