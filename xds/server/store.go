package server

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Store holds the newest version of every resource, each marshalled once and shared by all proxies.
// It knows who is to hear of which name, so that a change reaches only those.
type Store struct {
	mu     sync.RWMutex
	tables map[string]*table // by type URL
	// revision counts the calls of Apply that changed something.
	revision uint64
	// ports counts Service ports, once for each IP family: by namespace, and all under "".
	ports map[string]int
	// made is nil if nothing is made on demand.
	made *Made
}

// watcher is told of changes: of a name, or that there are some of a type that it follows. It must not
// block or call the store.
type watcher interface {
	changed(envoy.ID)
	followed()
}

// Change is applied as one.
type Change struct {
	// Set adds or replaces resources. All variants of a name come together.
	Set []envoy.Resource
	// Remove names resources that are no more. What is also in Set stays.
	Remove []envoy.ID
}

// NewStore gives an empty store.
func NewStore() *Store { return &Store{tables: map[string]*table{}, ports: map[string]int{}} }

// table of a type, made at first use. s.mu is held.
func (s *Store) table(typeURL string) *table {
	t := s.tables[typeURL]
	if t == nil {
		t = newTable()
		s.tables[typeURL] = t
	}
	return t
}

// Apply makes a change visible and tells those who are to hear of it. What is set to the bytes it
// already has is no change. It gives the IDs of what did change.
func (s *Store) Apply(c Change) ([]envoy.ID, error) {
	next, err := records(c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var changed []envoy.ID
	for id, r := range next {
		if !s.table(id.Type).records[id.Name].same(r) {
			changed = append(changed, id)
		}
	}
	if len(changed) == 0 {
		return nil, nil
	}
	slices.SortFunc(changed, envoy.ID.Compare)
	s.revision++
	for _, id := range changed {
		r := next[id]
		if id.Type == envoy.EndpointType {
			s.countPort(s.tables[id.Type].records[id.Name], -1)
			s.countPort(r, 1)
		}
		r.revision = s.revision
		s.tables[id.Type].put(id, r)
	}
	return changed, nil
}

// records are what a change makes of each name it speaks of.
func records(c Change) (map[envoy.ID]*record, error) {
	next := map[envoy.ID]*record{}
	now := time.Now()
	for _, r := range c.Set {
		e, err := newEntry(r, now)
		if err != nil {
			return nil, err
		}
		if next[r.ID()] == nil {
			next[r.ID()] = &record{name: r.Name, namespace: r.Namespace, lazy: r.Lazy}
		}
		next[r.ID()].variants = append(next[r.ID()].variants, variant{r.Variant, e})
	}
	for _, id := range c.Remove {
		if next[id] == nil {
			next[id] = &record{name: id.Name}
		}
	}
	return next, nil
}

func (s *Store) countPort(r *record, by int) {
	if r.live() {
		s.ports[""] += by
		s.ports[r.namespace] += by
	}
}

// portCount gives the number of Service ports in the mesh and in one namespace.
func (s *Store) portCount(namespace string) (all, in int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ports[""], s.ports[namespace]
}

// record gives what there is under a name, nil if nothing. It does not change any more.
func (s *Store) record(id envoy.ID) *record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.tables[id.Type]; t != nil && t.records[id.Name].live() {
		return t.records[id.Name]
	}
	return nil
}

// between calls f while no change is under way, and gives the revision.
func (s *Store) between(f func()) uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f()
	return s.revision
}

// since gives the records of a type that have changed after a revision, those that are gone too, and
// the revision of the last of them. ok is false where it is not known any more what has gone since.
func (s *Store) since(typeURL string, revision uint64) (changed []*record, now uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[typeURL]
	if t == nil {
		return nil, revision, true
	}
	return t.since(revision), max(revision, t.last()), revision == 0 || revision >= t.forgotten
}

// aheadIn gives the names of a type in a namespace that may be sent ahead; of all namespaces for "*".
func (s *Store) aheadIn(typeURL, namespace string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[typeURL]
	if t == nil {
		return nil
	}
	if namespace != wildcard {
		return slices.Collect(maps.Keys(t.namespaces[namespace]))
	}
	var out []string
	for _, names := range t.namespaces {
		out = slices.AppendSeq(out, maps.Keys(names))
	}
	return out
}

// watch has a watcher told of each change of one name, unwatch ends it.
func (s *Store) watch(id envoy.ID, w watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table(id.Type).watch(id.Name, w) {
		s.noteMade(id)
	}
}

func (s *Store) unwatch(id envoy.ID, w watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwatchLocked(id, w)
}

// unwatchLocked is unwatch while s.mu is held.
func (s *Store) unwatchLocked(id envoy.ID, w watcher) {
	if s.table(id.Type).unwatch(id.Name, w) {
		s.noteMade(id)
	}
}

// watchAll has a watcher told whenever a type that it follows has changed, and of every new name of any
// other.
func (s *Store) watchAll(typeURL string, w watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table(typeURL).everything[w] = struct{}{}
}

// forget ends everything that a watcher is told of. names are those that it watches, by type.
func (s *Store) forget(w watcher, names map[string][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for typeURL, watched := range names {
		for _, name := range watched {
			s.unwatchLocked(envoy.ID{Type: typeURL, Name: name}, w)
		}
	}
	for _, t := range s.tables {
		delete(t.everything, w)
	}
}

// versions are those of the whole store, by short type, name and variant.
func (s *Store) versions() map[string]map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]map[string]string{}
	for typeURL, t := range s.tables {
		byName := map[string]string{}
		for name, r := range t.records {
			for _, v := range r.variants {
				key := name
				if v.name != "" {
					key += " (" + v.name + ")"
				}
				byName[key] = v.version
			}
		}
		out[shortType(typeURL)] = byName
	}
	return out
}
