package translate

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A policy concerns what it targets and has targeted.
func TestPolicies(t *testing.T) {
	key := func(name string) mesh.Key { return mesh.Key{Namespace: "shop", Name: name} }
	d := newDependencies()
	policy := mesh.ID{Kind: mesh.KindTrafficPolicy, Key: key("p")}
	for i, step := range []struct{ targets, want []string }{
		{[]string{"v1"}, []string{"v1"}},
		{[]string{"v2"}, []string{"v1", "v2"}},
		{nil, []string{"v2"}},
		{nil, nil},
	} {
		var targets []mesh.Key
		for _, name := range step.targets {
			targets = append(targets, key(name))
		}
		got, want := sets.New(d.setPolicy(policy, targets)...), sets.Set[mesh.Key]{}
		for _, name := range step.want {
			want.Insert(key(name))
		}
		if !got.Equal(want) {
			t.Errorf("step %d: concerns %v, want %v", i, got, want)
		}
		for _, target := range targets {
			if !d.policiesOf(target).Has(policy) {
				t.Errorf("step %d: the policy is not found by its target", i)
			}
		}
	}
	if len(d.targets)+len(d.byTarget) > 0 {
		t.Error("entries are left of a policy that is gone")
	}
}

// TestDependencies: after any changes, what depends on an object is what a search through all routes finds,
// and nothing is left of routes that are gone.
func TestDependencies(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		key := func() mesh.Key {
			return mesh.Key{Namespace: fmt.Sprint("n", random.IntN(3)), Name: fmt.Sprint("s", random.IntN(4))}
		}
		keys := func() (out []mesh.Key) {
			seen := sets.Set[mesh.Key]{}
			for range random.IntN(4) {
				if k := key(); !seen.Has(k) {
					seen.Insert(k)
					out = append(out, k)
				}
			}
			return out
		}
		d := newDependencies()
		model := map[mesh.ID]mesh.RouteRefs{}
		for step := range 200 {
			id := mesh.ID{Kind: mesh.KindHTTPRoute, Key: key()}
			now := mesh.RouteRefs{Parents: keys(), Backends: keys()}
			if random.IntN(3) == 0 {
				now = mesh.RouteRefs{}
			}
			if got := d.setRoute(id, now); !slices.Equal(got.Parents, model[id].Parents) {
				t.Fatalf("seed %d, step %d: the route named %v, want %v", seed, step, got, model[id])
			}
			if model[id] = now; len(now.Parents) == 0 {
				model[id] = mesh.RouteRefs{}
			}
			compareDependencies(t, d, model, key())
		}
		for id := range model {
			d.setRoute(id, mesh.RouteRefs{})
		}
		if n := len(d.routes) + len(d.byParent) + len(d.byBackend) + len(d.byBackendNamespace); n > 0 {
			t.Errorf("seed %d: %d entries are left of routes that are gone", seed, n)
		}
	}
}

func compareDependencies(t *testing.T, d *dependencies, model map[mesh.ID]mesh.RouteRefs, key mesh.Key) {
	t.Helper()
	ofService, ofGrants, routes := sets.New(key), sets.Set[mesh.Key]{}, sets.Set[mesh.ID]{}
	for id, refs := range model {
		if sets.New(refs.Parents...).Has(key) {
			routes.Insert(id)
		}
		for _, backend := range refs.Backends {
			if backend == key {
				ofService.Insert(refs.Parents...)
			}
			if backend.Namespace == key.Namespace {
				ofGrants.Insert(refs.Parents...)
			}
		}
	}
	if got := sets.New(d.ofService(key)...); !got.Equal(ofService) {
		t.Fatalf("%v depend on Service %s, want %v", got, key, ofService)
	}
	if got := sets.New(d.ofGrants(key.Namespace)...); !got.Equal(ofGrants) {
		t.Fatalf("%v depend on the grants of %s, want %v", got, key.Namespace, ofGrants)
	}
	if got := d.routesOf(key); !got.Equal(routes) {
		t.Fatalf("routes of %s: %v, want %v", key, got, routes)
	}
}
