package server

import (
	"slices"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// wildcard is the name that subscribes to all resources of a type.
const wildcard = "*"

// subscription is one proxy's state for one resource type: what it wants, what it has, and what is
// still to be said to it. It holds names and versions only; of a type that is followed (follows) and
// subscribed to as a whole it holds two revisions instead.
type subscription struct {
	typeURL string
	all     bool
	// names the proxy has subscribed to; needed are those that it gets with "all" of a type that is not
	// followed.
	names, needed set
	// sent maps what the proxy holds, or has been sent, to its version. A type that is followed has none.
	sent map[string]string
	// added and removed are the revisions up to which additions and removals of a followed type are sent.
	added, removed uint64
	// dirty are names to look at again.
	dirty set
	// asked are names that must be answered even if nothing changed: the proxy has just subscribed.
	asked set
	// demanded are names that the proxy is to have though nothing changed: sending them is no convergence.
	demanded set
	// firstAnswer is set until a proxy that subscribed to everything has been answered: it waits for an
	// answer even where there is nothing.
	firstAnswer bool
	// nonce of the response that is not acknowledged yet; empty if there is none.
	nonce string
	// number is the nonce as a number; it grows with every response on the stream.
	number uint64
	// overdue is set when what comes after the type no longer waits for that response.
	overdue bool
	// inFlight and inFlightGone are what that response held.
	inFlight     []*entry
	inFlightGone []string
	// changedAt is when the oldest change in that response was published; zero if it holds none.
	changedAt time.Time
}

func newSubscription(typeURL string) *subscription {
	return &subscription{typeURL: typeURL, sent: map[string]string{}}
}

// follows reports whether the subscription is kept by revision.
func (s *subscription) follows() bool { return s.all && follows(s.typeURL) }

func (s *subscription) wants(name string) bool {
	return s.names.has(name) || s.needed.has(name) || s.follows()
}

func (s *subscription) holdsInFlight(name string) bool {
	return slices.Contains(s.inFlightGone, name) || slices.ContainsFunc(s.inFlight, func(e *entry) bool { return e.name == name })
}

// allowsWildcard: a first request without names means all resources, for these types. See
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#how-the-client-specifies-what-resources-to-return
func allowsWildcard(typeURL string) bool {
	return typeURL == envoy.ClusterType || typeURL == envoy.ListenerType || follows(typeURL)
}

// additions takes from what is dirty, and what has changed since, all that is new for the proxy, and
// the answers to names that do not exist. What has gone away stays dirty, for removals. It stops where
// a response is large enough; the rest stays dirty.
func (s *stream) additions(sub *subscription) (set []*entry, missing []string, err error) {
	if sub.follows() {
		return s.followAdditions(sub)
	}
	size := 0
	for _, name := range sub.dirty.sorted() {
		if size > maxResponse {
			break
		}
		asked := sub.asked.has(name)
		version, has := sub.sent[name]
		if !sub.wants(name) {
			if !has {
				sub.dirty.remove(name)
			}
			continue
		}
		e := s.lookup(envoy.ID{Type: sub.typeURL, Name: name})
		if e == nil {
			if s.awaits(envoy.ID{Type: sub.typeURL, Name: name}) {
				continue
			}
			if has && !asked && s.resuming != nil {
				continue // this replica may be a moment behind the one that it comes from
			}
			e = s.absent(sub, name)
		} else {
			s.absents.remove(name)
		}
		if e != nil && sub.typeURL == envoy.RouteType && !s.ready(e) {
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
		sub.dirty.remove(name)
		sub.asked.remove(name)
	}
	return set, missing, nil
}

// followAdditions gives all in one: a proxy that has got the first answer takes it for everything.
func (s *stream) followAdditions(sub *subscription) (set []*entry, missing []string, err error) {
	records, now, err := s.since(sub, sub.added)
	if err != nil {
		return nil, nil, err
	}
	if sub.added == 0 {
		sub.removed = now // it had nothing before
	}
	sub.added = now
	set = make([]*entry, 0, len(records))
	p := s.sentAhead()
	for _, r := range records {
		if r.lazy {
			continue
		}
		if e := s.pick(sub.typeURL, r, p); e != nil {
			set = append(set, e)
			sub.dirty.remove(r.name)
			sub.asked.remove(r.name)
		}
	}
	for _, name := range sub.dirty.sorted() {
		asked := sub.asked.has(name)
		if e := s.pick(sub.typeURL, s.store.record(envoy.ID{Type: sub.typeURL, Name: name}), p); e != nil {
			set = append(set, e)
		} else if asked {
			missing = append(missing, name)
		} else {
			continue
		}
		sub.dirty.remove(name)
		sub.asked.remove(name)
	}
	return set, missing, nil
}

// removals takes from what is dirty, and what has changed since, what the proxy has and should have
// no longer.
func (s *stream) removals(sub *subscription) (gone []string, err error) {
	if sub.follows() {
		records, now, err := s.since(sub, sub.removed)
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
		if id := (envoy.ID{Type: sub.typeURL, Name: name}); s.exists(id) || !sub.follows() && s.absent(sub, name) != nil {
			if sub.follows() {
				sub.dirty.remove(name)
			}
			continue // has come back: an addition
		}
		sub.dirty.remove(name)
		if _, has := sub.sent[name]; has || sub.follows() {
			delete(sub.sent, name)
			gone = append(gone, name)
		}
		if sub.typeURL != envoy.ClusterType || !s.referred(name) {
			s.release(sub, name)
		}
	}
	return gone, nil
}
