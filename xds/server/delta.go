package server

import (
	"sync"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// delta works out the difference between what a proxy was sent of a type and what it is to have. What it returns
// counts as sent.
type delta struct {
	lookup     *lookup
	subs       *subscriptions
	absents    *absents
	pending    *pending
	ordering   *ordering
	resumption *resumption
}

// additions takes from the dirty names everything that is new for the proxy, and the answers to names that do not exist.
// Names that are gone stay dirty, for removals. It stops where a response is large enough; the rest stays dirty.
func (d *delta) additions(sub *subscription) (set []*entry, missing []string) {
	size := 0
	for _, name := range sub.dirty.sorted() {
		if size > maxResponse {
			break
		}
		id := envoy.ID{Type: sub.typeURL, Name: name}
		asked := sub.asked.has(name)
		version, has := sub.sent[name]
		if !sub.wants(name) {
			switch {
			case has:
			case !asked:
				sub.dirty.remove(name)
			case !d.resumption.active():
				missing = append(missing, name)
				sub.done(name)
			}
			continue
		}
		e := d.lookup.entry(id)
		if e != nil {
			d.absents.forget(id)
		} else {
			if d.lookup.watches.awaits(id) {
				continue
			}
			if has && !asked && d.resumption.active() {
				continue // this replica may be a moment behind the one that the proxy comes from
			}
			e = d.absents.answer(sub, name, d.subs.scoped())
		}
		if e != nil && !d.ordering.may(sub.typeURL, e) {
			continue
		}
		if e == nil {
			if has && !asked && !d.subs.hasNoRemovals(sub) {
				continue
			}
			if asked {
				missing = append(missing, name)
			}
			delete(sub.sent, name)
			if sub.typeURL == envoy.VirtualHostType {
				d.subs.release(sub, name) // if it comes back, it is new in its collection
			}
		} else if asked || !has || version != e.version {
			set = append(set, e)
			size += e.wire.Len()
			sub.sent[name] = e.version
		}
		sub.done(name)
	}
	return set, missing
}

// removals takes from the dirty names everything that the proxy has and must not have any more.
func (d *delta) removals(sub *subscription) (gone []string) {
	referred := sync.OnceValue(d.subs.referred)
	for _, name := range sub.dirty.sorted() {
		if d.lookup.exists(envoy.ID{Type: sub.typeURL, Name: name}) || d.absents.answer(sub, name, d.subs.scoped()) != nil {
			continue // it has come back: an addition
		}
		if d.pending.len() > 0 {
			break // the same change may have altered what refers to it, and that goes first; the stream has been woken
		}
		sub.dirty.remove(name)
		if d.subs.leaves(sub, name) {
			continue
		}
		if _, has := sub.sent[name]; has {
			delete(sub.sent, name)
			gone = append(gone, name)
		}
		if sub.typeURL != envoy.ClusterType || !referred().has(name) {
			d.subs.release(sub, name)
		}
	}
	return gone
}
