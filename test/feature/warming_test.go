package feature

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// TestClustersThatWarmAnew: Envoy warms a new or changed cluster without asking again for endpoints
// that it knows, and would wait for ever. Whatever makes a cluster anew, the next new Service answers.
func TestClustersThatWarmAnew(t *testing.T) { bothWays(t, testClustersThatWarmAnew) }

func testClustersThatWarmAnew(t *testing.T, o option) {
	endpoints := []string{"10.244.0.5:8080"}
	httpBackend(t, endpoints[0])
	web := func(ip, portName string) service {
		return service{ips: []string{ip}, port: port(portName, 80), endpoints: endpoints}
	}
	limited := web("10.96.0.75", "http")
	limited.annotations = map[string]string{config.AnnotationMaxConnections: "1000"} // which is the cluster's
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
		{name: "an annotation changes", before: web("10.96.0.75", "http"), after: limited},
		{
			name: "a setting changes", before: web("10.96.0.74", "http"), after: web("10.96.0.74", "http"),
			change: func(m *config.Mesh) { m.Traffic.ConnectTimeout = &metav1.Duration{Duration: 4 * time.Second} },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newMesh(t, map[string]service{"web": tt.before}, o)
			w.answers("http://" + tt.before.ips[0] + "/")
			if tt.change != nil {
				w.upgrade(tt.change)
			}
			w.publish(map[string]service{"web": tt.after})
			w.publish(map[string]service{"web": tt.after, "next": next})
			w.answers("http://10.96.1.1/")
			w.answers("http://" + tt.after.ips[0] + "/")
		})
	}
}

// TestProtocolChangesUnderLoad: a port goes back and forth between opaque and HTTP. Every new connection is
// answered, and a connection that was made when the port was HTTP stays what it is.
func TestProtocolChangesUnderLoad(t *testing.T) { bothWays(t, testProtocolChangesUnderLoad) }

func testProtocolChangesUnderLoad(t *testing.T, o option) {
	httpBackend(t, "10.244.0.5:8080")
	web := func(protocol string) map[string]service {
		declared := port("port", 80) // not by its name, which its endpoints have as well, and get a moment later
		declared.AppProtocol = &protocol
		return map[string]service{
			"web": {ips: []string{"10.96.0.80"}, port: declared, endpoints: []string{"10.244.0.5:8080"}},
			// No other Service makes the port number an HTTP one.
			"db": {ips: []string{"10.96.0.81"}, port: port("tcp", 80), endpoints: []string{"10.244.0.5:8080"}},
		}
	}
	w := newMesh(t, web("http"), o)
	var calls [3]atomic.Int64
	stop := make(chan struct{})
	var all sync.WaitGroup
	for i, kind := range []string{"a new connection", "HTTP/1.1", "HTTP/2"} {
		c := client(t, kind == "HTTP/2")
		c.Transport.(*http.Transport).DisableKeepAlives = i == 0
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if status, body, err := get(c, "http://10.96.0.80/"); err != nil || status != http.StatusOK {
					t.Errorf("%s, call %d: status %d, body %q, error %v", kind, calls[i].Load(), status, body, err)
				}
				calls[i].Add(1)
			}
		})
	}
	defer all.Wait()
	defer close(stop)
	for i := range 10 {
		w.publish(web([]string{"tcp", "http"}[i%2]))
		for k := range calls {
			at := calls[k].Load()
			w.await("50 calls of each kind after the change", func() error {
				if n := calls[k].Load() - at; n < 50 {
					return fmt.Errorf("%d", n)
				}
				return nil
			})
		}
	}
}

// TestFirstRequestAfterProtocolChange: a connection is made while a port is HTTP, and its first request, for
// which the routes are asked for, comes when the port is opaque.
func TestFirstRequestAfterProtocolChange(t *testing.T) {
	httpBackend(t, "10.244.0.5:8080")
	web := func(name string) map[string]service {
		return map[string]service{"web": {ips: []string{"10.96.0.80"}, port: port(name, 80), endpoints: []string{"10.244.0.5:8080"}}}
	}
	w := newMesh(t, web("http"), onDemand, tapped)
	c := dial(t, "10.96.0.80:80")
	w.await("Envoy has the connection", func() error {
		if n := w.stat("http.outbound_http.downstream_cx_active"); n != 1 {
			return fmt.Errorf("%d connections", n)
		}
		return nil
	})
	w.publish(web("tcp"))
	w.await("Envoy has the new listener", func() error {
		if n := w.stat("listener_manager.listener_in_place_updated"); n != 1 {
			return fmt.Errorf("%d changes", n)
		}
		return nil
	})
	fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("%+v, error %v", res, err)
	}
	if n := w.tap.asked(envoy.RouteType, "10.96.0.80:80"); n != 1 {
		t.Errorf("the routes have been asked for %d times", n)
	}
}

// dial makes a connection that no read or write blocks for ever.
func dial(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}
