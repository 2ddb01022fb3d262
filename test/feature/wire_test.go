package feature

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// scripted answers each connection's requests with what their X-Answer says, byte for byte, and gives the heads, and
// the body where there is one with a length, as they came.
func scripted(t *testing.T, addr string, answers map[string]string) (seen chan string) {
	t.Helper()
	seen = make(chan string, 10)
	serveTCP(t, addr, func(c net.Conn) {
		r := bufio.NewReader(c)
		for {
			var raw strings.Builder
			for !strings.HasSuffix(raw.String(), "\r\n\r\n") {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				raw.WriteString(line)
			}
			req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(raw.String()), r)))
			if err != nil {
				fmt.Fprint(c, "HTTP/1.1 400 What\r\nContent-Length: 0\r\n\r\n")
				return
			}
			answer := answers[req.Header.Get("x-answer")]
			if answer == "" {
				answer = "HTTP/1.1 200 Fine\r\nContent-Length: 5\r\n\r\nhello"
			}
			seen <- raw.String()
			_, _ = io.WriteString(c, answer)
			if req.ContentLength != 0 {
				return // the body was not looked at
			}
		}
	})
	return seen
}

// TestHTTP1OnTheWire: what HTTP/1 allows reaches the server, and its answer the client.
func TestHTTP1OnTheWire(t *testing.T) {
	seen := scripted(t, "10.244.0.5:8080", map[string]string{
		"two-lengths": "HTTP/1.1 200 OK\r\nContent-Length: 99\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"switch":      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: derp\r\n\r\nraw bytes",
	})
	newMesh(t, map[string]service{"web": {ips: []string{"10.96.0.90"}, port: port("http", 80), endpoints: []string{"10.244.0.5:8080"}}})
	const fine = `^HTTP/1.1 200 (?s:.*)hello`
	for _, tt := range []struct{ name, request, server, client string }{
		{"an offer of TLS", "GET /a HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2\r\n\r\n", `^GET /a HTTP/1.1\r\nHost: web\r\nx-forwarded-proto: http\r\n\r\n$`, fine},
		{"several offers", "GET /a HTTP/1.1\r\nHost: web\r\nConnection: Upgrade, keep-alive\r\nUpgrade: HTTP/2.0, SHTTP/1.3, IRC/6.9, RTA/x11\r\n\r\n", `^GET /a HTTP/1.1\r\n`, fine},
		{"an unknown offer with a body", "POST /a HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: foo\r\nContent-Length: 2\r\n\r\nab", `\r\nContent-Length: 2\r\n`, fine},
		{"an offer that is known", "GET /a HTTP/1.1\r\nHost: web\r\nX-Answer: switch\r\nConnection: Upgrade\r\nUpgrade: DERP\r\n\r\n", `\r\nUpgrade: DERP\r\n`, `^HTTP/1.1 101 (?s:.*)raw bytes`},
		{"a known one among others", "GET /a HTTP/1.1\r\nHost: web\r\nX-Answer: switch\r\nConnection: Upgrade\r\nUpgrade: foo, derp\r\n\r\n", `\r\nUpgrade: ?derp\r\n`, `^HTTP/1.1 101 (?s:.*)raw bytes`},
		{"a known one, not taken", "GET /a HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n", `\r\nUpgrade: tcp\r\n`, fine},
		{"LIST", "LIST /v1/secret HTTP/1.1\r\nHost: web\r\n\r\n", `^LIST /v1/secret `, fine},
		{"a method nobody knows", "X-M_o.d~e /a HTTP/1.1\r\nHost: web\r\n\r\n", `^X-M_o.d~e /a `, fine},
		{"QUERY", "QUERY /a HTTP/1.1\r\nHost: web\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nab", `^QUERY /a `, fine},
		{"an absolute target", "GET http://other:81/p?q=1 HTTP/1.1\r\nHost: web\r\n\r\n", `^GET /p\?q=1 HTTP/1.1\r\nHost: other:81\r\n`, fine},
		{"a request with two lengths", "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", `(?i)\r\nTransfer-Encoding: chunked\r\n\r\n$`, fine},
		{"an answer with two lengths", "GET /a HTTP/1.1\r\nHost: web\r\nX-Answer: two-lengths\r\n\r\n", `^GET `, `(?i)^HTTP/1.1 200 (?s:.*)Transfer-Encoding: chunked(?s:.*)\r\n\r\n5\r\nhello\r\n0\r\n\r\n`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := net.Dial("tcp", "10.96.0.90:80")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			_, _ = io.WriteString(c, tt.request)
			want := regexp.MustCompile(tt.client)
			var answer []byte
			for b := make([]byte, 4096); !want.Match(answer); {
				n, err := c.Read(b)
				answer = append(answer, b[:n]...)
				if err != nil {
					t.Fatalf("the client got %q, %v, want %s", answer, err, tt.client)
				}
			}
			if got := <-seen; !regexp.MustCompile(tt.server).MatchString(got) {
				t.Errorf("the server got %q, want %s", got, tt.server)
			}
		})
	}
}

// TestHTTP2OnTheWire: frames that HTTP/2 allows end no connection.
func TestHTTP2OnTheWire(t *testing.T) {
	serveHTTP2(t, "10.244.0.5:8080")
	newMesh(t, map[string]service{"web": {ips: []string{"10.96.0.90"}, port: port("http", 80), endpoints: []string{"10.244.0.5:8080"}}})
	for name, send := range map[string]func(c *framed, stream uint32){
		"a header of 200 kB": func(c *framed, stream uint32) { c.headers(stream, true, "big", strings.Repeat("0Zq~", 50_000)) },
		"empty DATA": func(c *framed, stream uint32) {
			c.headers(stream, false)
			c.data(stream, 30, "")
			c.data(stream, 1, "x")
			c.end(stream)
		},
		"many PRIORITY frames": func(c *framed, stream uint32) { c.headers(stream, false); c.priority(stream, 500); c.end(stream) },
		"many calls that are given up": func(c *framed, stream uint32) {
			for range 1500 {
				c.headers(stream, false)
				c.reset(stream)
				stream += 2
			}
			c.headers(stream, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := dialFramed(t, "10.96.0.90:80")
			send(c, 1)
			c.answered()
		})
	}
}

func serveHTTP2(t *testing.T, addr string) {
	serveTCP(t, addr, func(c net.Conn) {
		//nolint:staticcheck // net/http has no settings for frames on one connection
		(&http2.Server{MaxReadFrameSize: 1 << 20, MaxConcurrentStreams: 10_000}).ServeConn(c, &http2.ServeConnOpts{
			BaseConfig: &http.Server{MaxHeaderBytes: 4 << 20, ReadHeaderTimeout: 10 * time.Second},
			Handler:    http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }),
		})
	})
}

// framed speaks HTTP/2 frame by frame.
type framed struct {
	t    *testing.T
	conn net.Conn
	*http2.Framer
	block strings.Builder
	hpack *hpack.Encoder
}

func dialFramed(t *testing.T, addr string) *framed {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	c := &framed{t: t, conn: conn, Framer: http2.NewFramer(conn, conn)}
	c.hpack = hpack.NewEncoder(&c.block)
	_, _ = io.WriteString(conn, http2.ClientPreface)
	c.must(c.WriteSettings())
	return c
}

func (c *framed) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *framed) headers(stream uint32, end bool, more ...string) {
	c.t.Helper()
	c.block.Reset()
	for fields := append([]string{":method", "POST", ":scheme", "http", ":authority", "web", ":path", "/"}, more...); len(fields) > 0; fields = fields[2:] {
		c.must(c.hpack.WriteField(hpack.HeaderField{Name: fields[0], Value: fields[1]}))
	}
	rest := c.block.String()
	first := rest[:min(len(rest), 16<<10)]
	rest = rest[len(first):]
	c.must(c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(first), EndStream: end, EndHeaders: rest == ""}))
	for rest != "" {
		next := rest[:min(len(rest), 16<<10)]
		rest = rest[len(next):]
		c.must(c.WriteContinuation(stream, rest == "", []byte(next)))
	}
}

func (c *framed) data(stream uint32, times int, text string) {
	c.t.Helper()
	for range times {
		c.must(c.WriteData(stream, false, []byte(text)))
	}
}

func (c *framed) end(stream uint32) { c.must(c.WriteData(stream, true, nil)) }

func (c *framed) reset(stream uint32) { c.must(c.WriteRSTStream(stream, http2.ErrCodeCancel)) }

func (c *framed) priority(stream uint32, times int) {
	c.t.Helper()
	for range times {
		c.must(c.WritePriority(stream, http2.PriorityParam{Weight: 7}))
	}
}

// answered waits for the end of a stream. The connection must not end before.
func (c *framed) answered() {
	c.t.Helper()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			c.t.Fatal(err)
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			c.t.Fatalf("the connection ends: %v", f.ErrCode)
		case *http2.HeadersFrame:
			if f.StreamEnded() {
				return
			}
		case *http2.DataFrame:
			if f.StreamEnded() {
				return
			}
		}
	}
}
