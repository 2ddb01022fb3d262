package server

import (
	"time"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Watched counts what is kept for the streams: names that somebody is told of, and those who are told of
// more than names.
func (s *Store) Watched() (names, everything int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, t := range s.tables {
		names += len(t.watchers)
		everything += len(t.everything)
	}
	return names, everything
}

// Logged counts what is kept of a followed type: items of the log and names.
func (s *Store) Logged(typeURL string) (items, names int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[typeURL]
	return len(t.log), len(t.records)
}

// MaxGone is how many more names than there are may be remembered as gone.
const MaxGone = maxGone

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

// Entered counts the streams that there are, those too that have not said anything.
func (s *Server) Entered() int {
	s.addresses.mu.Lock()
	defer s.addresses.mu.Unlock()
	n := 0
	for _, count := range s.addresses.counts {
		n += count
	}
	return n
}

// Kept is what is remembered of a version that a proxy brings along.
func Kept(version string) string {
	st := newStream(node.Node{}, New(Options{Store: NewStore()}), nil)
	sub := newSubscription(envoy.EndpointType)
	st.resumption.take(sub, map[string]string{"a": version})
	return sub.sent["a"]
}

// EndSilent has streams ended that say nothing for so long. It comes before the first of them.
func (s *Server) EndSilent(after time.Duration) { s.firstRequestTime = after }

// ResumeFor has removals from proxies that come back held back for so long. It comes before the first of them.
func (s *Server) ResumeFor(time time.Duration) { s.resumeTime = time }

// RequestsAtOnce may be sent before a stream is slowed to RequestsPerSecond.
const (
	RequestsAtOnce    = requestsAtOnce
	RequestsPerSecond = requestsPerSecond
)
