package feature

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// answers fails the test if an HTTP Service does not answer within the time of await.
func (w *world) answers(url string) {
	w.t.Helper()
	w.await(url+" answers", func() error {
		status, body, err := get(client(w.t, false), url)
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("status %d, body %q, error %v", status, body, err)
		}
		return nil
	})
}

// TestClustersThatWarmAnew: Envoy warms a new or changed cluster without asking again for endpoints
// that it knows, and would wait for ever. Whatever makes a cluster anew, the next new Service answers.
func TestClustersThatWarmAnew(t *testing.T) {
	endpoints := []string{"10.244.0.5:8080"}
	httpBackend(t, endpoints[0])
	web := func(ip, portName string) service {
		return service{ips: []string{ip}, port: port(portName, 80), endpoints: endpoints}
	}
	next := service{ips: []string{"10.96.1.1"}, port: port("http", 80), endpoints: endpoints}
	for _, tt := range []struct {
		name   string
		before service
		after  service
		change func(*config.Mesh)
	}{
		{name: "opaque becomes HTTP", before: web("10.96.0.70", "tcp"), after: web("10.96.0.70", "http")},
		{name: "HTTP becomes opaque", before: web("10.96.0.71", "http"), after: web("10.96.0.71", "tcp")},
		{name: "the Service gets another address", before: web("10.96.0.72", "tcp"), after: web("10.96.0.73", "tcp")},
		{
			name: "a setting changes", before: web("10.96.0.74", "http"), after: web("10.96.0.74", "http"),
			change: func(m *config.Mesh) { m.Traffic.ConnectTimeout = &metav1.Duration{Duration: 4 * time.Second} },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, map[string]service{"web": tt.before})
			if tt.change != nil {
				tt.change(w.cfg)
			}
			w.publish(map[string]service{"web": tt.after})
			w.publish(map[string]service{"web": tt.after, "next": next})
			w.answers("http://10.96.1.1/")
			w.answers("http://" + tt.after.ips[0] + "/")
		})
	}
}

// TestProtocolChangesUnderLoad: a port goes back and forth between opaque and HTTP; every new
// connection is answered.
func TestProtocolChangesUnderLoad(t *testing.T) {
	httpBackend(t, "10.244.0.5:8080")
	web := func(name string) map[string]service {
		return map[string]service{"web": {ips: []string{"10.96.0.80"}, port: port(name, 80), endpoints: []string{"10.244.0.5:8080"}}}
	}
	w := newWorld(t, web("tcp"))
	var calls atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
			if status, body, err := get(c, "http://10.96.0.80/"); err != nil || status != http.StatusOK {
				t.Errorf("call %d: status %d, body %q, error %v", calls.Load(), status, body, err)
			}
			calls.Add(1)
		}
	}()
	for i := range 10 {
		w.publish(web([]string{"http", "tcp"}[i%2]))
		at := calls.Load()
		w.await("50 calls after the change", func() error {
			if n := calls.Load() - at; n < 50 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
	}
	close(stop)
	<-done
}
