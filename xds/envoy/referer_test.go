package envoy

import (
	"slices"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A rule that removes Referer removes the copy, or the virtual host would write it again.
func TestRemovedReferer(t *testing.T) {
	for _, c := range []struct{ remove, want []string }{
		{nil, nil},
		{[]string{"x-a"}, []string{"x-a"}},
		{[]string{"x-a", "referer"}, []string{"x-a", "referer", refererHeader}},
	} {
		if got := removed(mesh.HeaderChange{Remove: c.remove}); !slices.Equal(got, c.want) {
			t.Errorf("of %q: %q, want %q", c.remove, got, c.want)
		}
	}
}
