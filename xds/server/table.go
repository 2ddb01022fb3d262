package server

import "github.com/mizzen-mesh/mizzen/xds/envoy"

// table holds the resources of one type.
type table struct {
	records map[string]*record
	// namespaces has the names, except lazy ones, by namespace; owners those with an owner, by owner; collections those in a collection,
	// by collection. Each name is in one of them at the most.
	namespaces, owners, collections map[string]map[string]struct{}
	// watchers hear of one name. Those of a collection hear of what is new in it. Those in everything hear of the whole type, for the owner that is the value (Store.watchAll).
	watchers   map[string]map[watcher]struct{}
	everything map[watcher]string
}

// record is one name. It does not change.
type record struct {
	name, namespace, owner, collection string
	lazy                               bool
	// variants is empty once the resource is removed.
	variants []variant
}

type variant struct {
	name string
	*entry
}

func newTable() *table {
	return &table{
		records:     map[string]*record{},
		namespaces:  map[string]map[string]struct{}{},
		owners:      map[string]map[string]struct{}{},
		collections: map[string]map[string]struct{}{},
		watchers:    map[string]map[watcher]struct{}{},
		everything:  map[watcher]string{},
	}
}

// put makes a record the current one of its name and tells its watchers.
func (t *table) put(id envoy.ID, r *record) {
	old := t.records[id.Name]
	t.replace(old, r)
	for w := range t.watchers[id.Name] {
		w.changed(id)
	}
	if !r.live() || r.lazy || old.live() && !old.lazy {
		return // only its own watchers get a lazy resource
	}
	if r.collection != "" {
		for w := range t.watchers[r.collection] {
			w.changed(id)
		}
		return
	}
	for w, owner := range t.everything {
		if owner == r.owner {
			w.changed(id)
		}
	}
}

func (t *table) replace(old, r *record) {
	if old != nil {
		names, group := t.group(old)
		delete(names[group], old.name)
		if len(names[group]) == 0 {
			delete(names, group)
		}
	}
	if !r.live() {
		delete(t.records, r.name)
		return
	}
	t.records[r.name] = r
	if r.lazy {
		return
	}
	names, group := t.group(r)
	if names[group] == nil {
		names[group] = map[string]struct{}{}
	}
	names[group][r.name] = struct{}{}
}

// group returns where the table has the name of a record that is not lazy.
func (t *table) group(r *record) (names map[string]map[string]struct{}, group string) {
	switch {
	case r.collection != "":
		return t.collections, r.collection
	case r.owner != "":
		return t.owners, r.owner
	}
	return t.namespaces, r.namespace
}

// watch adds a watcher of a name, and reports whether it is the first.
func (t *table) watch(name string, w watcher) (first bool) { return join(t.watchers, name, w) }

// unwatch removes a watcher of a name, and reports whether it was the last.
func (t *table) unwatch(name string, w watcher) (last bool) {
	return leave(t.watchers, name, w)
}

// join adds a watcher to a group, and reports whether it is the first.
func join[K comparable](groups map[K]map[watcher]struct{}, group K, w watcher) (first bool) {
	if first = groups[group] == nil; first {
		groups[group] = map[watcher]struct{}{}
	}
	groups[group][w] = struct{}{}
	return first
}

// leave removes a watcher from a group, and reports whether it was the last.
func leave[K comparable](groups map[K]map[watcher]struct{}, group K, w watcher) (last bool) {
	if groups[group] == nil {
		return false
	}
	delete(groups[group], w)
	if last = len(groups[group]) == 0; last {
		delete(groups, group)
	}
	return last
}

func (r *record) live() bool { return r != nil && len(r.variants) > 0 }

// visibleTo reports whether proxies of an owner may have the record; those of "" are sidecars.
func (r *record) visibleTo(owner string) bool { return r.owner == "" || r.owner == owner }

// same reports whether two records have the same content. nil is the same as a removed record.
func (r *record) same(other *record) bool {
	if !r.live() || !other.live() {
		return r.live() == other.live()
	}
	if len(r.variants) != len(other.variants) || r.lazy != other.lazy || r.namespace != other.namespace || r.owner != other.owner {
		return false
	}
	for _, v := range r.variants {
		if e := other.variant(v.name); e == nil || e.version != v.version {
			return false
		}
	}
	return true
}

// entry returns the first of these variants that exists, or else the one for all proxies, or nil.
func (r *record) entry(variants ...string) *entry {
	if r == nil {
		return nil
	}
	for _, variant := range variants {
		if e := r.variant(variant); e != nil {
			return e
		}
	}
	return r.variant("")
}

func (r *record) variant(name string) *entry {
	for _, v := range r.variants {
		if v.name == name {
			return v.entry
		}
	}
	return nil
}
