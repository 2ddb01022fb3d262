package server

import (
	"slices"
	"sort"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// table holds the resources of one type.
type table struct {
	records map[string]*record
	// log has the records of a followed type in the order of their last change. An item whose revision differs from its
	// record's is out of date. A proxy that has everything up to a revision needs only the items after it, so no stream
	// keeps a list of what its proxy has.
	log []logged
	// gone counts the removed records that are still in the log. forgotten is the revision of the newest one that is not.
	gone      int
	forgotten uint64
	// namespaces has the names of a type that is not followed, except lazy ones, by namespace.
	namespaces map[string]map[string]struct{}
	// watchers hear of one name, those in everything of the whole type (Store.watchAll).
	watchers   map[string]map[watcher]struct{}
	everything map[watcher]struct{}
}

type logged struct {
	revision uint64
	*record
}

// record is one name. Only its revision changes once it is in a table.
type record struct {
	name, namespace string
	lazy            bool
	// variants is empty once the resource is removed.
	variants []variant
	// revision of the last change of the name.
	revision uint64
}

type variant struct {
	name string
	*entry
}

// follows reports whether a proxy that subscribes to everything of a type gets everything. Such a type is followed by
// revision. Of clusters and listeners, a proxy gets only what it needs.
func follows(typeURL string) bool { return typeURL == envoy.ScopedRouteType }

// maxGone is by how much the removed names may outnumber the existing ones, before the older half is forgotten.
const maxGone = 4096

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
	if follows(id.Type) {
		t.append(old, r)
	} else {
		t.replace(old, r)
	}
	for w := range t.watchers[id.Name] {
		w.changed(id)
	}
	for w := range t.everything {
		switch {
		case follows(id.Type):
			w.followed()
		case r.live() && !r.lazy && (!old.live() || old.lazy): // only its own watchers get a lazy resource
			w.changed(id)
		}
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

// append adds a record to the log, and shortens the log when most of it is out of date.
func (t *table) append(old, r *record) {
	if old != nil {
		old.revision = r.revision // its item in the log is now out of date
		if !old.live() {
			t.gone--
		}
	}
	if !r.live() {
		t.gone++
	}
	t.records[r.name] = r
	t.log = append(t.log, logged{r.revision, r})
	if live := len(t.records) - t.gone; len(t.log) > 2*(live+maxGone) {
		t.compact(live)
	}
}

// compact drops what is out of date. If very many names are gone, it also forgets the older half of them.
func (t *table) compact(live int) {
	drop := 0
	if t.gone > live+maxGone {
		drop = t.gone / 2
	}
	t.log = slices.DeleteFunc(t.log, func(l logged) bool {
		if l.revision != l.record.revision {
			return true
		}
		if l.live() || drop == 0 {
			return false
		}
		drop--
		t.gone--
		t.forgotten = l.revision
		delete(t.records, l.name)
		return true
	})
}

// since returns the records that changed after a revision.
func (t *table) since(revision uint64) []*record {
	from := sort.Search(len(t.log), func(i int) bool { return t.log[i].revision > revision })
	var out []*record
	for _, l := range t.log[from:] {
		if l.revision == l.record.revision {
			out = append(out, l.record)
		}
	}
	return out
}

// last returns the revision of the last change.
func (t *table) last() uint64 {
	if len(t.log) == 0 {
		return 0
	}
	return t.log[len(t.log)-1].revision
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

func (r *record) hasVersion(version string) bool {
	return slices.ContainsFunc(r.variants, func(v variant) bool { return v.version == version })
}
