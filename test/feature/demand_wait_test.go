package feature

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// webs are HTTP Services at 10.96.<third>.1 and so on, all with one endpoint, and their URLs.
func webs(third, n int) (map[string]service, []string) {
	services, urls := map[string]service{}, []string{}
	for i := range n {
		ip := fmt.Sprintf("10.96.%d.%d", third+i/250, i%250+1)
		services[fmt.Sprintf("web-%d-%d", third, i)] = service{ips: []string{ip}, port: port("http", 80), endpoints: []string{"10.244.0.5:8080"}}
		urls = append(urls, "http://"+ip+"/")
	}
	return services, urls
}

// answer is what a caller got, and when.
type answer struct {
	status  int
	body    string
	headers http.Header
	err     error
	took    time.Duration
}

func (a answer) String() string {
	return fmt.Sprintf("status %d, body %q, headers %v, error %v after %s", a.status, a.body, a.headers, a.err, a.took.Round(time.Millisecond))
}

func call(c *http.Client, req *http.Request) (a answer) {
	start := time.Now()
	defer func() { a.took = time.Since(start) }()
	res, err := c.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return answer{status: res.StatusCode, body: string(b), headers: res.Header, err: err}
}

func request(method, url string, body io.Reader) *http.Request {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		panic(err) // the URL is the test's own
	}
	return req
}

// TestBoundedWait: a first call whose configuration does not come is answered at the bound, in every
// protocol. What was used goes on meanwhile, and the first call works when the control plane is back.
func TestBoundedWait(t *testing.T) {
	const limit = time.Second
	httpBackend(t, "10.244.0.5:8080")
	greeter(t, "10.244.0.5:9000")
	services, urls := webs(1, 4)
	for i := range 2 {
		services[fmt.Sprintf("db-%d", i)] = service{
			ips: []string{fmt.Sprintf("10.96.0.%d", 20+i)}, port: port("tcp", 9000), endpoints: []string{"10.244.0.5:9000"},
		}
	}
	const text = "mizzen: the control plane did not send the routes for 10.96.1.%d:80 in time\n"
	for _, tt := range []struct {
		name       string
		away, back func(*testMesh)
	}{
		{"the control plane is silent", func(w *testMesh) {
			w.tap.holdBack(func(m message) bool { return m.response != nil })
		}, func(w *testMesh) { w.tap.release() }},
		{"the control plane is away", func(w *testMesh) { w.stop() }, (*testMesh).startControlPlane},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newMesh(t, services, onDemand, tapped, bound(limit))
			w.answers(urls[0])
			dialGreeter(t, "10.96.0.20:9000")
			tt.away(w)

			var h1, h2, grpc, tcp answer
			var all sync.WaitGroup
			all.Go(func() { h1 = call(client(t, false), request(http.MethodGet, urls[1], nil)) })
			all.Go(func() { h2 = call(client(t, true), request(http.MethodGet, urls[2], nil)) })
			all.Go(func() {
				req := request(http.MethodPost, urls[3]+"a.B/C", strings.NewReader("\x00\x00\x00\x00\x00"))
				req.Header.Set("Content-Type", "application/grpc")
				grpc = call(client(t, true), req)
			})
			all.Go(func() { tcp = exchange(t, "10.96.0.21:9000", "a") })
			all.Wait()
			for name, a := range map[string]answer{"HTTP/1.1": h1, "HTTP/2": h2, "gRPC": grpc, "TCP": tcp} {
				if a.took < limit*9/10 || a.took > limit+2*time.Second {
					t.Errorf("%s: %s, want it after %s", name, a, limit)
				}
			}
			if h1.status != http.StatusServiceUnavailable || h1.body != fmt.Sprintf(text, 2) {
				t.Errorf("HTTP/1.1: %s", h1)
			}
			if h2.status != http.StatusServiceUnavailable || h2.body != fmt.Sprintf(text, 3) {
				t.Errorf("HTTP/2: %s", h2)
			}
			message, err := url.PathUnescape(grpc.headers.Get("Grpc-Message"))
			if grpc.status != http.StatusOK || grpc.headers.Get("Grpc-Status") != "14" || message != fmt.Sprintf(text, 4) {
				t.Errorf("gRPC: %s, message %q, error %v", grpc, message, err)
			}
			if tcp.body != "" || tcp.err == nil {
				t.Errorf("TCP: %s, want a closed connection", tcp)
			}

			if status, body, err := get(client(t, false), urls[0]); err != nil || status != http.StatusOK {
				t.Errorf("HTTP Service that was used: status %d, body %q, error %v", status, body, err)
			}
			dialGreeter(t, "10.96.0.20:9000")
			tt.back(w)
			w.answers(urls[1])
			w.await("the TCP Service answers", func() error {
				if a := exchange(t, "10.96.0.21:9000", "a"); a.err != nil {
					return a.err
				}
				return nil
			})
		})
	}
}

// TestBackInTime: the control plane is away at a first call and comes back before the bound.
func TestBackInTime(t *testing.T) {
	httpBackend(t, "10.244.0.5:8080")
	greeter(t, "10.244.0.5:9000")
	services, urls := webs(1, 2)
	services["db"] = service{ips: []string{"10.96.0.20"}, port: port("tcp", 9000), endpoints: []string{"10.244.0.5:9000"}}
	w := newMesh(t, services, onDemand)
	w.stop()
	w.await("Envoy is alone", func() error {
		if w.stat("control_plane.connected_state") != 0 {
			return fmt.Errorf("connected")
		}
		return nil
	})
	var got [3]answer
	var all sync.WaitGroup
	for i, h2 := range []bool{false, true} {
		all.Go(func() { got[i] = call(client(t, h2), request(http.MethodPost, urls[i], strings.NewReader("hello"))) })
	}
	all.Go(func() { got[2] = exchange(t, "10.96.0.20:9000", "a") })
	w.await("the calls wait", func() error {
		n := w.stat("http.outbound_http.downstream_rq_active") + w.stat("tcp.outbound_tcp.downstream_cx_total")
		if n != 3 {
			return fmt.Errorf("%d of them", n)
		}
		return nil
	})
	w.startControlPlane()
	all.Wait()
	for i, a := range got {
		if a.err != nil || i < 2 && a.status != http.StatusOK {
			t.Errorf("call %d: %s", i, a)
		}
	}
}

// TestBodies: a first request arrives whole after a wait, however large.
func TestBodies(t *testing.T) {
	serveHTTP(t, "10.244.0.5:8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := sha256.New()
		n, err := io.Copy(h, r.Body)
		fmt.Fprintf(w, "%d %x %v", n, h.Sum(nil), err)
	}))
	sizes := []int{0, 5, 300_000, 10_000_000}
	services, urls := webs(1, len(sizes)*4)
	w := newMesh(t, services, onDemand, tapped)
	w.tap.holdBack(requests(envoy.ClusterType))
	var all sync.WaitGroup
	for i, url := range urls {
		size, h2, chunked := sizes[i/4], i&1 == 1, i&2 == 2
		all.Go(func() {
			data := bytes.Repeat([]byte("0123456789"), size/10+1)[:size]
			var body io.Reader = bytes.NewReader(data)
			if chunked {
				body = io.MultiReader(body) // its length is not known
			}
			a := call(client(t, h2), request(http.MethodPost, url, body))
			if want := fmt.Sprintf("%d %x <nil>", size, sha256.Sum256(data)); a.err != nil || a.body != want {
				t.Errorf("%d bytes, HTTP/2 %v, chunked %v: %s, want %q", size, h2, chunked, a, want)
			}
		})
	}
	w.await("all requests wait", func() error {
		if n := w.stat("http.outbound_http.downstream_rq_active"); n != len(urls) {
			return fmt.Errorf("%d of %d", n, len(urls))
		}
		return nil
	})
	w.tap.release()
	all.Wait()
}

// TestSlowHead: the bound holds neither for the head of a request nor for a connection on which there is no request.
func TestSlowHead(t *testing.T) {
	const limit = time.Second
	httpBackend(t, "10.244.0.5:8080")
	services, _ := webs(1, 1)
	newMesh(t, services, onDemand, bound(limit))
	read := func(r *bufio.Reader) (int, string) {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return 0, err.Error()
		}
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b)
	}
	keptAlive, slow := dial(t, "10.96.1.1:80"), dial(t, "10.96.1.1:80")
	var all sync.WaitGroup
	all.Go(func() {
		fmt.Fprint(slow, "GET / HTTP/1.1\r\nHost: a\r\n")
		time.Sleep(limit * 3 / 2)
		fmt.Fprint(slow, "\r\n")
		if status, body := read(bufio.NewReader(slow)); status != http.StatusOK {
			t.Errorf("slow head: status %d, %q", status, body)
		}
	})
	all.Go(func() {
		r := bufio.NewReader(keptAlive)
		for i := range 2 {
			time.Sleep(limit * 3 / 2)
			fmt.Fprint(keptAlive, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			if status, body := read(r); status != http.StatusOK {
				t.Errorf("idle before request %d: status %d, %q", i, status, body)
			}
		}
	})
	all.Wait()
}
