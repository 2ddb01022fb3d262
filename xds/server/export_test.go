package server

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

// MaxNames and MaxTypes are limits of one stream.
const (
	MaxNames = maxNames
	MaxTypes = maxTypes
)

// RequestsAtOnce may be sent before a stream is slowed to RequestsPerSecond.
const (
	RequestsAtOnce    = requestsAtOnce
	RequestsPerSecond = requestsPerSecond
)
