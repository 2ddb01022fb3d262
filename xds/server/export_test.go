package server

import (
	"time"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Watched counts what the store keeps for streams: watched names, and watchers of whole types.
func (s *Store) Watched() (names, everything int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.tables {
		names += len(t.watchers)
		everything += len(t.everything)
	}
	return names, everything
}

// WatchedOf counts the watched names of a type.
func (s *Store) WatchedOf(typeURL string) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.table(typeURL).watchers)
}

// Names counts the names of all types that the store keeps something of.
func (s *Store) Names() (names int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.tables {
		names += len(t.records)
	}
	return names
}

// ScopeVersion returns the version of the scope of a destination.
func ScopeVersion(destination string) string { return scopeEntry(destination).version }

// Repeats are the times after the answer to a demand at which it is given again.
func Repeats() []time.Duration { return repeats }

// Limits of one stream.
const (
	MaxNames   = maxNames
	MaxTypes   = maxTypes
	MaxAbsent  = maxAbsent
	MaxMade    = maxMade
	MaxVersion = maxVersion

	StreamsPerPod = streamsPerPod
)

// ResumeTime is how long nothing is removed from a proxy that comes back.
const ResumeTime = resumeTime

// Turns of streams that begin.
const (
	BeginnersAtOnce = beginnersAtOnce
	BeginnerTime    = beginnerTime
)

// Entered counts the current streams, including those without a request yet.
func (s *Server) Entered() int { return s.addresses.Len() }

// Kept returns what the stream remembers of a version that a proxy brings along.
func Kept(version string) string {
	st := newStream(node.Node{}, New(Options{Store: NewStore()}), nil)
	sub := newSubscription(envoy.EndpointType)
	st.resumption.take(sub, map[string]string{"a": version})
	return sub.sent["a"]
}

// EndSilent ends streams without a first request after this time. It is called before the first stream.
func (s *Server) EndSilent(after time.Duration) { s.firstRequestTime = after }

// ResumeFor holds back removals for this time from proxies that come back. It is called before the first stream.
func (s *Server) ResumeFor(time time.Duration) { s.resumeTime = time }

// RequestsAtOnce may be sent before a stream is slowed to RequestsPerSecond.
const (
	RequestsAtOnce    = requestsAtOnce
	RequestsPerSecond = requestsPerSecond
)
