package server

import (
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// wildcard is the name that subscribes to all resources of a type.
const wildcard = "*"

// subscription is one proxy's state for one resource type: what it wants, what it has, and what is
// still to be said to it. It holds versions and names only.
type subscription struct {
	typeURL string
	all     bool
	names   map[string]struct{}
	// sent maps what the proxy holds, or has been sent, to its version.
	sent map[string]string
	// dirty are names to look at again.
	dirty map[string]struct{}
	// asked are names that must be answered even if nothing changed: the proxy has just subscribed.
	asked map[string]struct{}
	// nonce of the response that is not acknowledged yet; empty if there is none.
	nonce string
	// number is the nonce as a number; it grows with every response on the stream.
	number uint64
	// overdue is set when what comes after the type no longer waits for that response.
	overdue bool
	// firstAnswer is set until a proxy that subscribed to everything has been answered: it waits for an
	// answer even where there is nothing.
	firstAnswer bool
	// inFlight are the names of that response.
	inFlight []string
}

func newSubscription(typeURL string) *subscription {
	return &subscription{
		typeURL: typeURL,
		names:   map[string]struct{}{},
		sent:    map[string]string{},
		dirty:   map[string]struct{}{},
		asked:   map[string]struct{}{},
	}
}

func (s *subscription) wants(name string) bool {
	_, ok := s.names[name]
	return ok || s.all
}

// request takes over what a proxy says about its subscription. first is true for the first request
// of the type on this stream: without any name it means all, for the types that allow it. existing
// gives all names there are.
func (s *subscription) request(req *discoveryv3.DeltaDiscoveryRequest, first bool, existing func() []string) {
	for name, version := range req.InitialResourceVersions {
		s.sent[name] = version
		s.dirty[name] = struct{}{}
	}
	subscribe := req.ResourceNamesSubscribe
	if first && len(subscribe) == 0 && allowsWildcard(s.typeURL) {
		subscribe = []string{wildcard}
	}
	for _, name := range subscribe {
		if name == wildcard {
			s.all, s.firstAnswer = true, first && len(req.InitialResourceVersions) == 0
			for _, n := range existing() {
				s.dirty[n] = struct{}{}
			}
			continue
		}
		s.names[name] = struct{}{}
		s.dirty[name] = struct{}{}
		if _, has := req.InitialResourceVersions[name]; !has {
			s.asked[name] = struct{}{}
		}
	}
	for _, name := range req.ResourceNamesUnsubscribe {
		s.unsubscribe(name)
	}
}

func (s *subscription) unsubscribe(name string) {
	if name == wildcard {
		s.all = false
		for n := range s.sent {
			if !s.wants(n) {
				delete(s.sent, n)
			}
		}
		return
	}
	delete(s.names, name)
	delete(s.asked, name)
	if !s.wants(name) {
		delete(s.sent, name)
	}
}

// allowsWildcard: a first request without names means all resources, for these types. See
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#how-the-client-specifies-what-resources-to-return
func allowsWildcard(typeURL string) bool {
	return typeURL == envoy.ClusterType || typeURL == envoy.ListenerType || typeURL == envoy.ScopedRouteType
}

// additions takes from dirty what is new or changed for the proxy, and the answers to names that do
// not exist. What has gone away stays dirty, for removals.
func (s *subscription) additions(lookup func(name string) *entry) (set []*entry, missing []string) {
	for _, name := range sortedKeys(s.dirty) {
		_, asked := s.asked[name]
		if !s.wants(name) {
			delete(s.dirty, name)
			continue
		}
		e := lookup(name)
		version, has := s.sent[name]
		if e == nil {
			if has && !asked {
				continue
			}
			if asked {
				missing = append(missing, name)
			}
			delete(s.sent, name)
		} else if asked || !has || version != e.version() {
			set = append(set, e)
			s.sent[name] = e.version()
		}
		delete(s.dirty, name)
		delete(s.asked, name)
	}
	return set, missing
}

// removals takes from dirty what the proxy has and should have no longer.
func (s *subscription) removals(lookup func(name string) *entry) []string {
	var out []string
	for _, name := range sortedKeys(s.dirty) {
		if lookup(name) != nil {
			continue // has come back: an addition
		}
		delete(s.dirty, name)
		if _, has := s.sent[name]; has {
			delete(s.sent, name)
			out = append(out, name)
		}
	}
	return out
}

func sortedKeys(m map[string]struct{}) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
