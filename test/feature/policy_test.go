package feature

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	kubeclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
)

// TestSessionsHoldFromTheFirstCall: a sidecar that has never called a Service sends the first request of a
// session to its endpoint, also one with a body that waits for its routes, and begins a session where the
// request has none.
func TestSessionsHoldFromTheFirstCall(t *testing.T) { bothWays(t, testSessionsHoldFromTheFirstCall) }

func testSessionsHoldFromTheFirstCall(t *testing.T, o option) {
	backends := []string{"10.244.0.5:8081", "10.244.0.6:8081", "10.244.0.7:8081"}
	for _, b := range backends {
		httpBackend(t, b)
	}
	const perMethod = 12
	methods := []string{http.MethodGet, http.MethodPost}
	services := map[string]service{}
	for i := range perMethod*len(methods) + 1 {
		services[fmt.Sprintf("s-%d", i)] = service{
			ips: []string{serviceIP(i)}, port: port("http", 80), endpoints: backends,
			with: []kubeclient.Object{session(fmt.Sprintf("s-%d", i), "s")},
		}
	}
	newMesh(t, services, o)
	// The Services have the same endpoints, so the session of the first holds at each.
	send := func(method string, i int, cookie string) (endpoint, set string) {
		t.Helper()
		req := request(method, "http://"+serviceIP(i)+"/", nil)
		if method == http.MethodPost {
			// Go's server closes a connection on which a handler has left more than 256 KiB of a body.
			req = request(method, "http://"+serviceIP(i)+"/", strings.NewReader(strings.Repeat("body", 50_000)))
		}
		if cookie != "" {
			req.Header.Set("Cookie", cookie)
		}
		res, err := client(t, i%2 == 1).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b := make([]byte, 64)
		n, _ := res.Body.Read(b)
		set, _, _ = strings.Cut(res.Header.Get("Set-Cookie"), ";")
		return string(b[:n]), set
	}
	want, cookie := send(http.MethodPost, 0, "")
	if !strings.HasPrefix(cookie, "s=") {
		t.Fatalf("Set-Cookie: %q", cookie)
	}
	for m, method := range methods {
		for i := range perMethod {
			if got, set := send(method, 1+m*perMethod+i, cookie); got != want || set != "" {
				t.Errorf("%s: the session of %s went to %s, Set-Cookie: %q", method, want, got, set)
			}
		}
	}
}

// TestSessionComesAndGoes: a Service that a sidecar already calls gets a session, and loses it.
func TestSessionComesAndGoes(t *testing.T) {
	httpBackend(t, "10.244.0.5:8081")
	services := func(with ...kubeclient.Object) map[string]service {
		return map[string]service{"s": {ips: []string{serviceIP(0)}, port: port("http", 80), endpoints: []string{"10.244.0.5:8081"}, with: with}}
	}
	w := newMesh(t, services())
	for _, h2 := range []bool{false, true} {
		c := client(t, h2) // one connection, throughout
		for _, step := range []struct {
			name string
			with []kubeclient.Object
			want bool
		}{{"none", nil, false}, {"a session", []kubeclient.Object{session("s", "s")}, true}, {"none any more", nil, false}} {
			w.publish(services(step.with...))
			w.await(step.name, func() error {
				a := call(c, request(http.MethodPost, "http://"+serviceIP(0)+"/", strings.NewReader("body")))
				if got := a.headers.Get("Set-Cookie"); a.err != nil || a.status != http.StatusOK || (got != "") != step.want {
					return fmt.Errorf("%s, Set-Cookie: %q", a, got)
				}
				return nil
			})
		}
	}
}

// TestPolicyOfBytes: limits hold, and a client keeps its endpoint, where nobody looks into the bytes.
func TestPolicyOfBytes(t *testing.T) {
	var greeters []string
	for i := range 3 {
		greeters = append(greeters, fmt.Sprintf("10.244.0.%d:3306", i+5))
		greeter(t, greeters[i])
	}
	newMesh(t, map[string]service{
		"limited": {ips: []string{"10.96.0.10"}, port: port("mysql", 3306), endpoints: greeters[:1],
			annotations: map[string]string{config.AnnotationMaxConnections: "2"}},
		"hashed": {ips: []string{"10.96.0.11"}, port: port("mysql", 3306), endpoints: greeters,
			annotations: map[string]string{config.AnnotationLoadBalancing: config.RingHash, config.AnnotationHashBy: "header:x-user"}},
	}, onDemand)
	for range 2 {
		dialGreeter(t, "10.96.0.10:3306")
	}
	refused(t, "above the limit", "10.96.0.10:3306")
	first := dialGreeter(t, "10.96.0.11:3306").hello
	for range 20 {
		if got := dialGreeter(t, "10.96.0.11:3306").hello; got != first {
			t.Fatalf("%q, then %q", first, got)
		}
	}
}
