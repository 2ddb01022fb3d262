package server

import "github.com/mizzen-mesh/mizzen/xds/envoy"

// Made are resources that are made when a proxy asks for them, and that are none when no proxy does any more: there
// are too many that could be asked for. A proxy that asks waits until its resource is made, and where one that it has
// is taken away while it wants it, it keeps what it has.
type Made struct {
	is    func(envoy.ID) bool
	store *Store
	wake  chan struct{}
	// changed are the names that proxies have begun or ended to ask for. Guarded by store.mu.
	changed map[envoy.ID]struct{}
}

// Made has resources made on demand: those of which is gives true for the ID. It comes before the store is served.
func (s *Store) Made(is func(envoy.ID) bool) *Made {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.made = &Made{is: is, store: s, wake: make(chan struct{}, 1), changed: map[envoy.ID]struct{}{}}
	return s.made
}

// Changed is readable when there is something to Take.
func (m *Made) Changed() <-chan struct{} { return m.wake }

// Take gives the names that have come to be wanted since the last Take, and those that nobody wants any more.
func (m *Made) Take() (wanted, unwanted []envoy.ID) {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	for id := range m.changed {
		if len(m.store.table(id.Type).watchers[id.Name]) > 0 {
			wanted = append(wanted, id)
		} else {
			unwanted = append(unwanted, id)
		}
	}
	m.changed = map[envoy.ID]struct{}{}
	return wanted, unwanted
}

// makes reports whether a resource is made on demand.
func (s *Store) makes(id envoy.ID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.made != nil && s.made.is(id)
}

// noteMade notes that somebody has begun, or all have ended, to watch a name. s.mu is held.
func (s *Store) noteMade(id envoy.ID) {
	if s.made == nil || !s.made.is(id) {
		return
	}
	s.made.changed[id] = struct{}{}
	select {
	case s.made.wake <- struct{}{}:
	default:
	}
}

// watch has the stream told of a name. One that is made on demand and would be one too many does not exist for this
// proxy.
func (s *stream) watch(id envoy.ID) {
	if s.store.makes(id) {
		if _, has := s.made[id]; !has && len(s.made) >= maxMade {
			// Our agent keeps within the bound: it gives up one that is idle before it asks for another.
			s.metrics.beyond.Inc()
			s.log.Info("refused a sidecar's request for a pod address: it has too many at a time", "name", id.Name, "most", maxMade)
			return
		}
		s.made[id] = struct{}{}
	}
	s.store.watch(id, s)
}

func (s *stream) unwatch(id envoy.ID) {
	delete(s.made, id)
	s.store.unwatch(id, s)
}

// awaits reports whether a name is made on demand for this proxy: while there is nothing under it, there is nothing
// yet, or not at the moment.
func (s *stream) awaits(id envoy.ID) bool {
	_, asked := s.made[id]
	return asked
}
