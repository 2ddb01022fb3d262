package feature

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	kubeclient "sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// TestMirrorsComeAndGo: a Service that a sidecar already calls gets a rule that mirrors, to a Service that nobody calls
// and of another namespace, and loses it again.
func TestMirrorsComeAndGo(t *testing.T) { bothWays(t, testMirrorsComeAndGo) }

func testMirrorsComeAndGo(t *testing.T, o option) {
	const server, mirror, url = "10.244.0.5:8081", "10.244.0.6:8081", "http://10.96.0.10/"
	httpBackend(t, server)
	var copies atomic.Int32
	serveHTTP(t, mirror, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { copies.Add(1) }))
	withMirror := func() *gatewayv1.HTTPRoute {
		r := httpRoute("shop", "mirrored", parent("shop", "web"), backend("web", 80))
		to := backend("copy", 80)
		to.Namespace = new(gatewayv1.Namespace("other"))
		r.Spec.Rules[0].Filters = []gatewayv1.HTTPRouteFilter{{
			Type: gatewayv1.HTTPRouteFilterRequestMirror, RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{BackendRef: to.BackendObjectReference},
		}}
		return r
	}
	plain := httpRoute("shop", "mirrored", parent("shop", "web"), backend("web", 80))
	web := service{ips: []string{"10.96.0.10"}, port: port("http", 80), endpoints: []string{server}}
	w := newMesh(t, map[string]service{
		"web": web,
		"copy": {namespace: "other", ips: []string{"10.96.0.11"}, port: port("http", 80), endpoints: []string{mirror},
			with: []kubeclient.Object{grant("other", "HTTPRoute", "shop")}},
	}, o)
	call := func() {
		status, body, err := get(client(t, false), url)
		if err != nil || status != http.StatusOK || body != server {
			t.Fatalf("status %d, body %q, error %v", status, body, err)
		}
	}
	for range 2 {
		call()
		web.with = []kubeclient.Object{withMirror()}
		w.change(map[string]service{"web": web})
		before := copies.Load()
		w.await("requests are mirrored", func() error {
			if call(); copies.Load() == before {
				return errors.New("no copy")
			}
			return nil
		})
		web.with = []kubeclient.Object{plain}
		w.change(map[string]service{"web": web})
		quiet := 0
		w.await("they are mirrored no more", func() error {
			before := copies.Load()
			if call(); copies.Load() != before {
				quiet = 0
			} else if quiet++; quiet >= 50 {
				return nil
			}
			return fmt.Errorf("%d calls without a copy", quiet)
		})
	}
}
