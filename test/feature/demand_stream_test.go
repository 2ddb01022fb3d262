package feature

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Streams are idle for longer than the bound.
const (
	shortBound = 2 * time.Second
	idle       = 2500 * time.Millisecond
)

// TestIdleStreamsLive: the bound ends no stream that has a route, whatever it is: not the first, which has
// waited for the route, and no later one.
func TestIdleStreamsLive(t *testing.T) {
	serveIdle(t, "10.244.0.5:8080")
	first, urls := webs(1, len(streamKinds))
	later, laterURLs := webs(2, len(streamKinds))
	for name, s := range later {
		first[name] = s
	}
	w := newMesh(t, first, onDemand, tapped, bound(shortBound))
	for _, url := range laterURLs {
		w.answers(url + "nothing")
	}
	const counter = "http.outbound_http.downstream_rq_total"
	before := w.stat(counter)
	w.tap.holdBack(requests(envoy.ClusterType))
	var all sync.WaitGroup // not t.Parallel, which runs two at a time on two cores
	for i, kind := range streamKinds {
		for when, url := range map[string]string{"first": urls[i], "later": laterURLs[i]} {
			all.Go(func() {
				c := client(t, kind.h2)
				c.Timeout = 20 * time.Second
				if err := kind.run(c, url); err != nil {
					t.Errorf("%s, %s, HTTP/2 %v: %v", when, kind.name, kind.h2, err)
				}
			})
		}
	}
	w.await("all streams have begun", func() error {
		if n := w.stat(counter) - before; n != 2*len(streamKinds) {
			return fmt.Errorf("%d of %d", n, 2*len(streamKinds))
		}
		return nil
	})
	w.tap.release()
	all.Wait()
}

var streamKinds = []struct {
	name string
	h2   bool
	run  func(c *http.Client, url string) error
}{
	{"slow answer", false, wants("slow", "late")},
	{"slow answer", true, wants("slow", "late")},
	{"answer with a pause", false, wants("pause", "one two")},
	{"answer with a pause", true, wants("pause", "one two")},
	{"upload with a pause", false, upload},
	{"upload with a pause", true, upload},
	{"slow reader", false, slowReader},
	{"slow reader", true, slowReader},
	{"both ways", false, bothDirections(http.MethodPost, "")},
	{"both ways", true, bothDirections(http.MethodPost, "")},
	{"gRPC", true, bothDirections(http.MethodPost, "application/grpc")},
	{"CONNECT", true, bothDirections(http.MethodConnect, "")},
	{"CONNECT", false, tunnel("CONNECT a.example:1 HTTP/1.1\r\nHost: a.example:1\r\n\r\n")},
	{"websocket", false, tunnel("GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")},
}

// largeSize is more than the windows of Go's HTTP/2 client and the buffers of sockets, so that the end of an
// answer stays in Envoy while nobody reads it.
const largeSize = 4<<20 + 200_000

func serveIdle(t *testing.T, addr string) {
	serveHTTP(t, addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		switch {
		case r.URL.Path == "/nothing":
		case r.URL.Path == "/slow":
			time.Sleep(idle)
			fmt.Fprint(w, "late")
		case r.URL.Path == "/pause":
			fmt.Fprint(w, "one ")
			_ = c.Flush()
			time.Sleep(idle)
			fmt.Fprint(w, "two")
		case r.URL.Path == "/large":
			_, _ = w.Write(make([]byte, largeSize))
		case r.URL.Path == "/upload":
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprint(w, n, " ", err)
		case r.ProtoMajor == 1 && r.Method == http.MethodConnect:
			echoTunnel(c, "HTTP/1.1 200 OK\r\n\r\n")
		case r.Header.Get("Upgrade") != "":
			echoTunnel(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
		default:
			_ = c.Flush()
			for b := make([]byte, 1000); ; {
				n, err := r.Body.Read(b)
				_, _ = w.Write(b[:n])
				_ = c.Flush()
				if err != nil {
					return
				}
			}
		}
	}))
}

func echoTunnel(c *http.ResponseController, head string) {
	conn, buffered, err := c.Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, head)
	_, _ = io.Copy(conn, buffered)
}

func wants(path, body string) func(*http.Client, string) error {
	return func(c *http.Client, url string) error {
		if a := call(c, request(http.MethodGet, url+path, nil)); a.err != nil || a.body != body {
			return fmt.Errorf("%s", a)
		}
		return nil
	}
}

func upload(c *http.Client, url string) error {
	r, w := io.Pipe()
	go func() {
		for range 3 {
			fmt.Fprint(w, "12345")
			time.Sleep(idle)
		}
		w.Close()
	}()
	if a := call(c, request(http.MethodPost, url+"upload", r)); a.err != nil || a.body != "15 <nil>" {
		return fmt.Errorf("%s", a)
	}
	return nil
}

// slowReader: the answer is complete, and Envoy waits to be rid of it.
func slowReader(c *http.Client, url string) error {
	res, err := c.Do(request(http.MethodGet, url+"large", nil))
	if err != nil {
		return err
	}
	defer res.Body.Close()
	time.Sleep(idle)
	if n, err := io.Copy(io.Discard, res.Body); n != largeSize || err != nil {
		return fmt.Errorf("%d of %d bytes, error %v", n, largeSize, err) //nolint:errorlint // err may be nil
	}
	return nil
}

// bothDirections sends while it waits for its routes, and again.
func bothDirections(method, contentType string) func(*http.Client, string) error {
	return func(c *http.Client, url string) error {
		r, w := io.Pipe()
		req := request(method, url+"echo", r)
		if method == http.MethodConnect {
			req.URL.Path = ""
		}
		if contentType != "" {
			req.Header.Set("Content-Type", contentType)
		}
		go fmt.Fprint(w, "ping")
		res, err := c.Do(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		for i := range 2 {
			if i > 0 {
				fmt.Fprint(w, "ping")
			}
			if err := ping(res.Body); err != nil {
				return fmt.Errorf("status %d, headers %v, message %d: %w", res.StatusCode, res.Header, i, err)
			}
			time.Sleep(idle)
		}
		w.Close()
		if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != 0 {
			return fmt.Errorf("at the end: %q, error %v", rest, err) //nolint:errorlint // err may be nil
		}
		return nil
	}
}

func tunnel(head string) func(*http.Client, string) error {
	return func(_ *http.Client, url string) error {
		c, err := net.Dial("tcp", strings.Trim(url, "htp:/")+":80")
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(c, head)
		r := bufio.NewReader(c)
		for line := ""; line != "\r\n"; {
			if line, err = r.ReadString('\n'); err != nil {
				return fmt.Errorf("head %q, error %w", line, err)
			}
		}
		for range 2 {
			fmt.Fprint(c, "ping")
			if err := ping(r); err != nil {
				return err
			}
			time.Sleep(idle)
		}
		return nil
	}
}

func ping(r io.Reader) error {
	b := make([]byte, 4)
	if _, err := io.ReadFull(r, b); err != nil || string(b) != "ping" {
		return fmt.Errorf("read %q, error %v", b, err) //nolint:errorlint // err may be nil
	}
	return nil
}
