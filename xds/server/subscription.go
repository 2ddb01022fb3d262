package server

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// wildcard is the name that subscribes to all resources of a type.
const wildcard = "*"

// subscription is the state of one resource type on one stream: what the proxy wants, what it was sent, and what it
// must still be told. It holds names and versions, no resources.
type subscription struct {
	typeURL string
	all     bool
	// names are those that the proxy has subscribed to. needed are those that the server added because the proxy
	// subscribed to everything of the type.
	names, needed set
	// sent maps what the proxy holds, or has been sent, to its version.
	sent map[string]string
	// dirty are names to look at again.
	dirty set
	// asked are names that must be answered even if nothing changed, because the proxy has just subscribed.
	asked set
	// requested are needed names that are sent because of a request. Sending them is not the convergence of a change.
	requested set
	// firstAnswer is set until a proxy that subscribed to everything has its first answer. It expects one even if
	// there is nothing to send.
	firstAnswer bool
	// nonce of the response that the proxy has not acknowledged yet; empty without such a response.
	nonce string
	// number is the nonce as a number; it grows with every response on the stream.
	number uint64
	// overdue is set when the types behind this one no longer wait for that response.
	overdue bool
	// inFlight and inFlightGone are the contents of that response.
	inFlight     []*entry
	inFlightGone []string
	// changedAt is when the oldest change in that response was published; zero if it carries no change.
	changedAt time.Time
}

func newSubscription(typeURL string) *subscription {
	return &subscription{typeURL: typeURL, sent: map[string]string{}}
}

// wants reports whether the proxy is to have a name if it exists.
func (s *subscription) wants(name string) bool {
	return s.names.has(name) || s.needed.has(name)
}

// concerns reports whether a change of a name must be looked at.
func (s *subscription) concerns(name string) bool {
	_, has := s.sent[name]
	return has || s.wants(name)
}

// unacknowledged reports whether the proxy still has to answer a response.
func (s *subscription) unacknowledged() bool { return s.nonce != "" }

// holdsBack reports whether the types behind this one wait for the proxy's answer.
func (s *subscription) holdsBack() bool { return s.unacknowledged() && !s.overdue }

// done takes a name off the list of those to look at.
func (s *subscription) done(name string) {
	s.dirty.remove(name)
	s.asked.remove(name)
}

// askAgain has a name answered although nothing changed.
func (s *subscription) askAgain(name string) {
	s.asked.add(name)
	s.dirty.add(name)
}

// responding notes a response that is about to be sent. Its number is larger than that of every earlier one.
func (s *subscription) responding(number uint64, c cause, set []*entry, removed []string) {
	s.overdue, s.firstAnswer = false, false
	s.number, s.nonce = number, strconv.FormatUint(number, 10)
	s.inFlight, s.inFlightGone = set, removed
	s.changedAt = time.Time{}
	if c == causeChange {
		s.changedAt = oldest(set)
	}
	for _, e := range set {
		s.requested.remove(e.name)
	}
}

// answered ends the wait for the proxy's answer.
func (s *subscription) answered() { s.nonce, s.inFlight, s.inFlightGone = "", nil, nil }

// sentSince reports whether the response in flight is newer than a number and holds a name.
func (s *subscription) sentSince(number uint64, name string) bool {
	return s.unacknowledged() && s.number > number &&
		(slices.Contains(s.inFlightGone, name) || slices.ContainsFunc(s.inFlight, func(e *entry) bool { return e.name == name }))
}

// mentioned returns the names in flight that an error message contains, or all if it contains none.
func (s *subscription) mentioned(message string) []string {
	names := s.namesInFlight()
	var out []string
	for _, n := range names {
		if strings.Contains(message, n) {
			out = append(out, n)
		}
	}
	if out == nil {
		out = names
	}
	return out
}

// namesInFlight returns the names that the response has which the proxy has not acknowledged.
func (s *subscription) namesInFlight() []string {
	names := slices.Clone(s.inFlightGone)
	for _, e := range s.inFlight {
		names = append(names, e.name)
	}
	return names
}

// size counts names for the limit of a stream.
func (s *subscription) size() int { return max(len(s.names), len(s.sent), len(s.dirty)) }

// oldest returns when the first of the entries was published; the zero time without entries.
func oldest(set []*entry) time.Time {
	var at time.Time
	for _, e := range set {
		if at.IsZero() || e.published.Before(at) {
			at = e.published
		}
	}
	return at
}

// allowsWildcard reports whether a first request without names means all resources of the type. See
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#how-the-client-specifies-what-resources-to-return
func allowsWildcard(typeURL string) bool {
	return typeURL == envoy.ClusterType || typeURL == envoy.ListenerType || typeURL == envoy.ScopedRouteType || typeURL == envoy.VirtualHostType
}
