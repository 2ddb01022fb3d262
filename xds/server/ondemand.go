package server

import "github.com/mizzen-mesh/mizzen/xds/envoy"

// OnDemand lists the resources to make because a proxy asks for them. There are too many to make them all, so a
// resource exists only while some proxy asks for it. A proxy that asks waits until its resource is made. If the resource
// is removed while the proxy still wants it, the proxy keeps what it has.
type OnDemand struct {
	is    func(envoy.ID) bool
	store *Store
	wake  chan struct{}
	// changed are the names that a first proxy has asked for, or that the last one has given up. Guarded by store.mu.
	changed map[envoy.ID]struct{}
}

// OnDemand declares which resources are made on demand: those for whose ID is returns true. Call it before the store is
// served.
func (s *Store) OnDemand(is func(envoy.ID) bool) *OnDemand {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onDemand = &OnDemand{is: is, store: s, wake: make(chan struct{}, 1), changed: map[envoy.ID]struct{}{}}
	return s.onDemand
}

// Changed is readable when there is something to Take.
func (d *OnDemand) Changed() <-chan struct{} { return d.wake }

// Take returns the names that proxies have begun to want since the last Take, and those that no proxy wants any more.
func (d *OnDemand) Take() (wanted, unwanted []envoy.ID) {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	for id := range d.changed {
		if len(d.store.table(id.Type).watchers[id.Name]) > 0 {
			wanted = append(wanted, id)
		} else {
			unwanted = append(unwanted, id)
		}
	}
	d.changed = map[envoy.ID]struct{}{}
	return wanted, unwanted
}

// madeOnDemand reports whether a resource is made on demand.
func (s *Store) madeOnDemand(id envoy.ID) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.onDemand != nil && s.onDemand.is(id)
}

// noteDemand notes that the first watcher of a name has come, or the last has gone. s.mu is held.
func (s *Store) noteDemand(id envoy.ID) {
	if s.onDemand == nil || !s.onDemand.is(id) {
		return
	}
	s.onDemand.changed[id] = struct{}{}
	select {
	case s.onDemand.wake <- struct{}{}:
	default:
	}
}
