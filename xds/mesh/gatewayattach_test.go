package mesh

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// A route is found by its host names as by a look at each route.
func TestHostsOfRoutes(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	names := []string{"", "*.com", "a.com", "b.com", "*.a.com", "x.a.com", "y.x.a.com", "*.x.a.com", "com", "*.b.com", "a.b.com", "aa.com", "*.aa.com"}
	for range 2000 {
		var all []attached
		index := newHostsOfRoutes()
		for i := range r.IntN(6) {
			a := attached{&BuiltRoute{route: &route{}}, nil}
			a.ID = ID{Key: Key{Name: fmt.Sprint(i)}}
			for range 1 + r.IntN(3) {
				a.hosts = append(a.hosts, names[r.IntN(len(names))])
			}
			all = append(all, a)
			index.add(a)
		}
		hosts := []string{names[r.IntN(len(names))], names[r.IntN(len(names))]}
		var want *BuiltRoute
		if i := slices.IndexFunc(all, func(a attached) bool {
			return slices.ContainsFunc(a.hosts, func(x string) bool {
				return slices.ContainsFunc(hosts, func(y string) bool { _, meet := hostsMeet(x, y); return meet })
			})
		}); i >= 0 {
			want = all[i].BuiltRoute
		}
		if got := index.oldest(hosts); got != want {
			t.Fatalf("%q among %v: got %v, want %v", hosts, all, got, want)
		}
	}
}
