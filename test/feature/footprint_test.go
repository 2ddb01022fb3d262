package feature

import (
	"fmt"
	"testing"
	"time"
)

// keepalive is more than the bytes of a PING of HTTP/2 in TLS.
const keepalive = 100

// TestFootprint: what a sidecar holds that uses 10 of many Services, with the product's defaults and without identities, and
// what is sent to it.
func TestFootprint(t *testing.T) {
	httpBackend(t, "10.244.0.5:8080")
	empty := map[string]figures{
		"with identities": footprint(t, "with identities", 0), "without identities": footprint(t, "without identities", 0, withoutIdentities),
	}
	for _, tt := range []struct {
		name     string
		options  []option
		services int
		// most megabytes of memory more than in an empty mesh, and sent.
		memory, sent float64
	}{
		{"with identities", nil, 1000, 6, 0.25}, // of which 50 are sent ahead
		{"with identities", nil, 10_000, 2, 0.1},
		{"without identities", []option{withoutIdentities}, 1000, 5, 0.25},
	} {
		f := footprint(t, tt.name, tt.services, tt.options...)
		memory, sent := float64(f.allocated-empty[tt.name].allocated)/1e6, float64(f.sent)/1e6
		report("%s, 10 of %d Services used: %.2f MB more than in an empty mesh (%.2f MB), %.3f MB sent (empty mesh: %.3f MB), %d bytes for one more",
			tt.name, tt.services, memory, float64(empty[tt.name].allocated)/1e6, sent, float64(empty[tt.name].sent)/1e6, f.one)
		if memory > tt.memory || sent > tt.sent || f.one > keepalive {
			t.Errorf("%s, %d Services: want at most %.0f MB more, %.2f MB sent, %d bytes for one more", tt.name, tt.services, tt.memory, tt.sent, keepalive)
		}
	}
}

// figures are bytes: allocated in Envoy, sent to it, and sent for one more Service.
type figures struct{ allocated, sent, one int64 }

func footprint(t *testing.T, name string, n int, options ...option) (f figures) {
	const namespaces, used = 20, 10
	t.Run(fmt.Sprintf("%s, %d Services", name, n), func(t *testing.T) {
		services := map[string]service{}
		for i := range n {
			s := service{namespace: fmt.Sprintf("team-%d", i%namespaces), ips: []string{serviceIP(i)}, port: port("http", 80)}
			for k := range 3 {
				s.endpoints = append(s.endpoints, fmt.Sprintf("10.%d.%d.%d:8080", 128+k, i/250, i%250+1))
			}
			if i < used {
				s.endpoints = []string{"10.244.0.5:8080"}
			}
			services[fmt.Sprintf("service-%d", i)] = s
		}
		w := newMesh(t, services, append(options, twoWorkers, func(w *testMesh) { w.pod.Namespace = "team-0" })...)
		for i := range min(used, n) {
			w.answers("http://" + serviceIP(i) + "/")
		}
		f.allocated = w.settled("memory", 50_000, w.allocated)
		f.sent = w.sent.Load()
		w.change(map[string]service{"new": {namespace: "team-1", ips: []string{"10.96.255.1"}, port: port("http", 80), endpoints: []string{"10.244.0.5:8080"}}})
		f.one = w.settled("bytes sent", 0, func() (int64, error) { return w.sent.Load(), nil }) - f.sent
	})
	return f
}

// settled reads a figure until it has stayed the same, but for a difference, for half a second.
func (w *testMesh) settled(what string, difference int64, read func() (int64, error)) int64 {
	w.t.Helper()
	var figure int64
	since := time.Now()
	w.await(what+" settles", func() error {
		n, err := read()
		if err != nil {
			return err
		}
		if n > figure+difference || n < figure-difference {
			figure, since = n, time.Now()
		}
		if time.Since(since) < 500*time.Millisecond {
			return fmt.Errorf("%d", n)
		}
		figure = n
		return nil
	})
	return figure
}
