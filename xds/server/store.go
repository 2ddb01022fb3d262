package server

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Store holds the newest version of every resource, each marshalled once and shared by all proxies.
// It knows which stream watches which name, so that a change wakes only those streams.
type Store struct {
	mu     sync.RWMutex
	tables map[string]*table // by type URL
	// ports counts Service ports, once for each IP family: by namespace, and all under "".
	ports map[string]int
	// onDemand is nil if nothing is made on demand.
	onDemand *OnDemand
	// classes has the class of each pod. members are the watchers that are told when their pod's class changes.
	classes map[node.Pod]string
	members map[node.Pod]map[watcher]struct{}
	// zones has the zone of each Kubernetes node that has one. residents are the watchers on a node.
	zones     map[string]string
	residents map[string]map[watcher]struct{}
}

// watcher is told of changed names. It must not block or call the store.
type watcher interface{ changed(envoy.ID) }

// NewStore returns an empty store.
func NewStore() *Store {
	return &Store{
		tables: map[string]*table{}, ports: map[string]int{},
		classes: map[node.Pod]string{}, members: map[node.Pod]map[watcher]struct{}{},
		zones: map[string]string{}, residents: map[string]map[watcher]struct{}{},
	}
}

// table returns the table of a type, which it makes at the first use. s.mu is held.
func (s *Store) table(typeURL string) *table {
	t := s.tables[typeURL]
	if t == nil {
		t = newTable()
		s.tables[typeURL] = t
	}
	return t
}

// Apply makes a change visible and tells the watchers of it. A resource that is set to the bytes that it already has
// does not change. Apply returns the IDs of those that did change.
func (s *Store) Apply(c envoy.Change) ([]envoy.ID, error) {
	next, err := records(c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.classify(c.Classes)
	defer s.setZones(c.Zones)
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
	for _, id := range changed {
		r := next[id]
		if id.Type == envoy.EndpointType {
			s.countPort(s.tables[id.Type].records[id.Name], -1)
			s.countPort(r, 1)
		}
		s.tables[id.Type].put(id, r)
	}
	return changed, nil
}

// records returns the new record of each name in a change.
func records(c envoy.Change) (map[envoy.ID]*record, error) {
	next := map[envoy.ID]*record{}
	now := time.Now()
	for _, r := range c.Set {
		e, err := newEntry(r, now)
		if err != nil {
			return nil, err
		}
		if next[r.ID()] == nil {
			next[r.ID()] = &record{
				name: r.ID().Name, namespace: r.Namespace, owner: r.Owner, collection: envoy.CollectionOf(r.ID()), lazy: r.Lazy || r.Class != "",
			}
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

// classify sets the classes of pods. It is called after the resources of the classes are in the store. s.mu is held.
func (s *Store) classify(classes map[node.Pod]string) {
	for pod, class := range classes {
		if class == "" {
			delete(s.classes, pod) // if its proxy is still connected, it keeps what it has
			continue
		}
		if s.classes[pod] == class {
			continue
		}
		s.classes[pod] = class
		for w := range s.members[pod] {
			w.changed(envoy.InboundListener)
		}
	}
}

// setZones sets the zones of nodes, and tells the proxies of a node whose zone is another one of all endpoints that they watch. s.mu is held.
func (s *Store) setZones(zones map[string]string) {
	for name, zone := range zones {
		if s.zones[name] == zone {
			continue
		}
		if s.zones[name] = zone; zone == "" {
			delete(s.zones, name)
		}
		for w := range s.residents[name] {
			for watched, watchers := range s.table(envoy.EndpointType).watchers {
				if _, ok := watchers[w]; ok {
					w.changed(envoy.ID{Type: envoy.EndpointType, Name: watched})
				}
			}
		}
	}
}

// zone returns the zone of a Kubernetes node, or "" if it has none.
func (s *Store) zone(nodeName string) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.zones[nodeName]
}

// class returns the class of a pod, or "" if it is not known.
func (s *Store) class(pod node.Pod) string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.classes[pod]
}

// recordOfClass returns the record of a name for the pod's class, or nil if the class is not known.
func (s *Store) recordOfClass(id envoy.ID, pod node.Pod) *record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t, class := s.tables[id.Type], s.classes[pod]
	if t == nil || class == "" || !t.records[id.Of(class).Name].live() {
		return nil
	}
	return t.records[id.Of(class).Name]
}

// join makes a watcher hear of changes of its pod's class and of its node's zone, until leave.
func (s *Store) join(n node.Node, w watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	join(s.members, n.Of(), w)
	join(s.residents, n.NodeName, w)
}

func (s *Store) leave(n node.Node, w watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	leave(s.members, n.Of(), w)
	leave(s.residents, n.NodeName, w)
}

func (s *Store) countPort(r *record, by int) {
	if r.live() && !r.lazy {
		s.ports[""] += by
		s.ports[r.namespace] += by
	}
}

// portCount returns the number of Service ports in the mesh and in one namespace.
func (s *Store) portCount(namespace string) (all, in int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.ports[""], s.ports[namespace]
}

// between calls f while no change is being made.
func (s *Store) between(f func()) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	f()
}

// record returns the record of a name, or nil if the resource does not exist. A record does not change.
func (s *Store) record(id envoy.ID) *record {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.tables[id.Type]; t != nil && t.records[id.Name].live() {
		return t.records[id.Name]
	}
	return nil
}

// owned returns the names of a type that belong to a gateway and are not lazy.
func (s *Store) owned(typeURL, owner string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.tables[typeURL]; t != nil {
		return slices.Collect(maps.Keys(t.owners[owner]))
	}
	return nil
}

// collection returns the names of a type in a collection.
func (s *Store) collection(typeURL, name string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if t := s.tables[typeURL]; t != nil {
		return slices.Collect(maps.Keys(t.collections[name]))
	}
	return nil
}

// hasCollection reports whether there is a name of a type in a collection.
func (s *Store) hasCollection(typeURL, name string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	t := s.tables[typeURL]
	return t != nil && len(t.collections[name]) > 0
}

// preloadable returns the names of a type in a namespace that may be preloaded to sidecars; of all namespaces for "*".
func (s *Store) preloadable(typeURL, namespace string) []string {
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

// watch makes a watcher hear of each change of a name, until unwatch.
func (s *Store) watch(id envoy.ID, w watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.table(id.Type).watch(id.Name, w) {
		s.noteDemand(id)
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
		s.noteDemand(id)
	}
}

// watchAll makes a watcher hear of each new name of a type that belongs to a gateway, or to none for "".
func (s *Store) watchAll(typeURL, owner string, w watcher) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table(typeURL).everything[w] = owner
}

// forget ends all watches of a watcher. names are those that it watches, by type.
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

// versions returns the version of each resource, by short type, name and variant.
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

// sizes returns the size of each type, by short type.
func (s *Store) sizes() map[string]tableSize {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]tableSize{}
	for typeURL, t := range s.tables {
		size := tableSize{Names: len(t.records), Watched: len(t.watchers)}
		for _, r := range t.records {
			size.Variants += len(r.variants)
			for _, v := range r.variants {
				size.Bytes += v.wire.Len()
			}
		}
		out[shortType(typeURL)] = size
	}
	return out
}
