package envoy

import (
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// The port of a redirect, as the conformance test HTTPRouteRedirectPortAndScheme wants it; 0 leaves it out.
func TestEdgeRedirects(t *testing.T) {
	const host = "example.org"
	for _, test := range []struct {
		listener origin
		redirect mesh.Redirect
		want     uint32
	}{
		{origin{"http", 80}, mesh.Redirect{Hostname: host}, 0},
		{origin{"http", 80}, mesh.Redirect{Port: 8080}, 8080},
		{origin{"http", 80}, mesh.Redirect{Scheme: "https"}, 0},
		{origin{"http", 80}, mesh.Redirect{Scheme: "https", Port: 8443}, 8443},
		{origin{"http", 8080}, mesh.Redirect{Hostname: host}, 8080},
		{origin{"http", 8080}, mesh.Redirect{Hostname: host, Port: 80}, 0},
		{origin{"http", 8080}, mesh.Redirect{Hostname: host, Scheme: "https"}, 0},
		{origin{"http", 8080}, mesh.Redirect{Scheme: "https"}, 443}, // otherwise Envoy keeps the 8080 of the request's Host
		{origin{"https", 443}, mesh.Redirect{}, 0},
		{origin{"https", 443}, mesh.Redirect{Hostname: host, Port: 443}, 0},
		{origin{"https", 443}, mesh.Redirect{Scheme: "http"}, 0},
		{origin{"https", 443}, mesh.Redirect{Scheme: "http", Port: 8080}, 8080},
		{origin{"https", 8443}, mesh.Redirect{Hostname: host}, 8443},
	} {
		got := translation{edge: &edge{origin: test.listener}}.redirect(&test.redirect, mesh.Match{})
		if got.PortRedirect != test.want {
			t.Errorf("%v, %+v: port %d, want %d", test.listener, test.redirect, got.PortRedirect, test.want)
		}
	}
}
