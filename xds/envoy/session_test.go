package envoy

import (
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

func TestCookiePath(t *testing.T) {
	for _, c := range []struct {
		match mesh.TextMatch
		want  string
	}{
		{mesh.TextMatch{Type: mesh.Prefix, Value: "/"}, "/"},
		{mesh.TextMatch{Type: mesh.Prefix, Value: "/shop"}, "/shop"},
		{mesh.TextMatch{Type: mesh.Exact, Value: "/shop/"}, "/shop"},
		{mesh.TextMatch{Type: mesh.Exact, Value: "/shop.Cart/Get"}, "/shop.Cart/Get"},
		{mesh.TextMatch{Type: mesh.Regex, Value: "/p1/p2/.*/p3"}, "/p1/p2"},
		{mesh.TextMatch{Type: mesh.Regex, Value: "^/p1/p2[0-9]"}, "/p1"},
		{mesh.TextMatch{Type: mesh.Regex, Value: "/p1|/p2"}, "/"},
		{mesh.TextMatch{Type: mesh.Regex, Value: "(/p1)?/x"}, "/"},
		{mesh.TextMatch{Type: mesh.Regex, Value: "/p1/x"}, "/p1/x"},
		{mesh.TextMatch{Type: mesh.Regex, Value: "/p1/\n.*"}, "/p1"},
		{mesh.TextMatch{Type: mesh.Prefix, Value: "/p1;p2/x"}, "/"},
		{mesh.TextMatch{Type: mesh.Prefix, Value: "/p1/x;Domain=y"}, "/p1"},
	} {
		if got := cookiePath(c.match); got != c.want {
			t.Errorf("%+v: got %q, want %q", c.match, got, c.want)
		}
	}
}
