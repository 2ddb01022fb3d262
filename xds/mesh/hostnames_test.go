package mesh

import "testing"

func TestHostCovers(t *testing.T) {
	for _, test := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "a.com", true},
		{"", "", true},
		{"a.com", "", false},
		{"a.com", "a.com", true},
		{"a.com", "*.a.com", false},
		{"*.a.com", "a.com", false},
		{"*.a.com", "b.a.com", true},
		{"*.a.com", "c.b.a.com", true},
		{"*.a.com", "*.b.a.com", true},
		{"*.a.com", "*.a.com", true},
		{"*.b.a.com", "*.a.com", false},
		{"*.a.com", "ba.com", false},
	} {
		if got := HostCovers(test.pattern, test.name); got != test.want {
			t.Errorf("HostCovers(%q, %q) is %v", test.pattern, test.name, got)
		}
	}
}
