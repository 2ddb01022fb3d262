package server

import "github.com/mizzen-mesh/mizzen/xds/envoy"

// table holds the resources of one type.
type table struct {
	records map[string]*record
	// namespaces has the names, except lazy ones, by namespace.
	namespaces map[string]map[string]struct{}
	// watchers hear of one name, those in everything of the whole type (Store.watchAll).
	watchers   map[string]map[watcher]struct{}
	everything map[watcher]struct{}
}

// record is one name. It does not change.
type record struct {
	name, namespace string
	lazy            bool
	// variants is empty once the resource is removed.
	variants []variant
}

type variant struct {
	name string
	*entry
}

func newTable() *table {
	return &table{
		records:    map[string]*record{},
		namespaces: map[string]map[string]struct{}{},
		watchers:   map[string]map[watcher]struct{}{},
		everything: map[watcher]struct{}{},
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
	for w := range t.everything {
		w.changed(id)
	}
}

func (t *table) replace(old, r *record) {
	if old != nil {
		delete(t.namespaces[old.namespace], old.name)
		if len(t.namespaces[old.namespace]) == 0 {
			delete(t.namespaces, old.namespace)
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
	if t.namespaces[r.namespace] == nil {
		t.namespaces[r.namespace] = map[string]struct{}{}
	}
	t.namespaces[r.namespace][r.name] = struct{}{}
}

// watch adds a watcher of a name, and reports whether it is the first.
func (t *table) watch(name string, w watcher) (first bool) {
	if first = t.watchers[name] == nil; first {
		t.watchers[name] = map[watcher]struct{}{}
	}
	t.watchers[name][w] = struct{}{}
	return first
}

// unwatch removes a watcher of a name, and reports whether it was the last.
func (t *table) unwatch(name string, w watcher) (last bool) {
	if t.watchers[name] == nil {
		return false
	}
	delete(t.watchers[name], w)
	if last = len(t.watchers[name]) == 0; last {
		delete(t.watchers, name)
	}
	return last
}

func (r *record) live() bool { return r != nil && len(r.variants) > 0 }

// same reports whether two records have the same content. nil is the same as a removed record.
func (r *record) same(other *record) bool {
	if !r.live() || !other.live() {
		return r.live() == other.live()
	}
	if len(r.variants) != len(other.variants) || r.lazy != other.lazy || r.namespace != other.namespace {
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
