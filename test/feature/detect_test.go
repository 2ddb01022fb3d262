package feature

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// protocols of ports, as a Service's port says them by its name. On the same port number: what one Service says must
// not change what becomes of another's connections.
var protocols = map[string]string{"undeclared": "10.96.0.60:9100", "declared": "10.96.0.61:9100", "outside": "10.244.0.5:9100"}

// sameNumber is a mesh of which two Services have one port number, one of them without a protocol.
func sameNumber(t *testing.T) {
	endpoints := []string{"10.244.0.5:9100"}
	newMesh(t, map[string]service{
		"undeclared": {ips: []string{"10.96.0.60"}, port: port("db", 9100), endpoints: endpoints},
		"declared":   {ips: []string{"10.96.0.61"}, port: port("tcp-db", 9100), endpoints: endpoints},
	}, twoWorkers) // as many as by default
}

// sink counts the bytes of each connection until its end.
func sink(t *testing.T, addr string) <-chan int64 {
	t.Helper()
	counts := make(chan int64, 1000)
	serveTCP(t, addr, func(c net.Conn) {
		n, _ := io.Copy(io.Discard, c)
		counts <- n
	})
	return counts
}

// TestWriteThenClose: whatever a client says before it closes arrives, however soon it closes.
func TestWriteThenClose(t *testing.T) {
	counts := sink(t, "10.244.0.5:9100")
	sameNumber(t)
	const connections = 50
	for name, addr := range protocols {
		for _, pause := range []time.Duration{0, time.Millisecond} { // the client's own
			for _, text := range []string{strings.Repeat("x", 30), strings.Repeat("\x01", 30)} {
				t.Run(fmt.Sprintf("%s/%s/%.3q", name, pause, text), func(t *testing.T) {
					var wg sync.WaitGroup
					for range connections {
						wg.Go(func() {
							c, err := net.Dial("tcp", addr)
							if err != nil {
								t.Error(err)
								return
							}
							fmt.Fprint(c, text)
							time.Sleep(pause)
							c.Close()
						})
					}
					wg.Wait()
					for i := range connections {
						select {
						case n := <-counts:
							if n != int64(len(text)) {
								t.Errorf("connection %d: %d bytes, want %d", i, n, len(text))
							}
						case <-time.After(5 * time.Second):
							t.Fatalf("%d of %d connections came", i, connections)
						}
					}
				})
			}
		}
	}
}

// TestDetectionFollowsServices: a port number that comes later is looked at, too.
func TestDetectionFollowsServices(t *testing.T) {
	counts := sink(t, "10.244.0.5:9100")
	httpBackend(t, "10.244.0.6:9101")
	w := newMesh(t, map[string]service{"first": {ips: []string{"10.96.0.63"}, port: port("", 9102), endpoints: []string{"10.244.0.5:9100"}}})
	w.change(map[string]service{
		"bytes": {ips: []string{"10.96.0.64"}, port: port("", 9103), endpoints: []string{"10.244.0.5:9100"}},
		"web":   {ips: []string{"10.96.0.65"}, port: port("", 9104), endpoints: []string{"10.244.0.6:9101"}},
	})
	w.answers("http://10.96.0.65:9104/")
	for range 20 {
		c, err := net.Dial("tcp", "10.96.0.64:9103")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "some bytes")
		c.Close()
	}
	for range 20 {
		select {
		case n := <-counts:
			if n != 10 {
				t.Errorf("%d bytes", n)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a connection did not come")
		}
	}
}

// TestDetectionWaits is for whom a connection waits until it is known whether it is HTTP.
func TestDetectionWaits(t *testing.T) {
	const most = 500 * time.Millisecond
	greeter(t, "10.244.0.5:9100")
	sameNumber(t)
	for name, addr := range protocols {
		t.Run("the server speaks first/"+name, func(t *testing.T) {
			start := time.Now()
			dialGreeter(t, addr)
			if took := time.Since(start); (took < most) == (name == "undeclared") {
				t.Errorf("took %s", took)
			}
		})
	}
	for name, first := range map[string]string{
		"LDAP, an anonymous bind":     "\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00",
		"ZooKeeper, a word":           "ruok",
		"Hazelcast":                   "HZC",
		"git daemon":                  "002egit-upload-pack /project\x00host=git.example\x00",
		"syslog with counted octets":  "27 <34>1 - host app - - - word",
		"the debugger of Java":        "JDWP-Handshake",
		"TLS":                         "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
		"one letter that begins none": "z",
		"a lower-case method":         "get / http/1.1",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", protocols["undeclared"])
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			start := time.Now()
			fmt.Fprint(c, first)
			_ = c.SetReadDeadline(start.Add(5 * time.Second))
			want := "hello from 10.244.0.5:9100\n" + first
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
				t.Fatalf("%q, %v", got, err)
			}
			if took := time.Since(start); took > most {
				t.Errorf("took %s", took)
			}
		})
	}
}

// TestDetectedConnections: a connection of which the protocol had to be found out is like any other.
func TestDetectedConnections(t *testing.T) {
	const large = 30 << 20
	reset := make(chan error, 1)
	serveTCP(t, "10.244.0.5:9100", func(c net.Conn) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil {
			return
		}
		switch first[0] {
		case 1: // answers once the client has ended
			n, _ := io.Copy(io.Discard, c)
			fmt.Fprintf(c, "%d", n)
			_, _ = io.Copy(c, bytes.NewReader(make([]byte, 300<<10)))
		case 2: // ends first, and still hears
			_ = c.(*net.TCPConn).CloseWrite()
			n, _ := io.Copy(io.Discard, c)
			reset <- fmt.Errorf("%d bytes", n)
		case 3: // hears how the client ends
			_, _ = c.Write(first)
			_, err := io.Copy(io.Discard, c)
			reset <- err
		case 4:
			_ = c.(*net.TCPConn).SetLinger(0)
		default:
			_, _ = io.Copy(c, c)
		}
	})
	serveHTTP(t, "10.244.0.6:9101", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(w, r.Body)
		w.Header().Set(http.TrailerPrefix+"Count", fmt.Sprint(n))
	}))
	newMesh(t, map[string]service{
		"undeclared": {ips: []string{"10.96.0.60"}, port: port("db", 9100), endpoints: []string{"10.244.0.5:9100"}},
		"web":        {ips: []string{"10.96.0.62"}, port: port("", 9101), endpoints: []string{"10.244.0.6:9101"}},
	}, onDemand)
	dial := func(t *testing.T, kind byte) *net.TCPConn {
		t.Helper()
		c, err := net.Dial("tcp", "10.96.0.60:9100")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = c.Write([]byte{kind})
		return c.(*net.TCPConn)
	}
	t.Run("the client ends first", func(t *testing.T) {
		c := dial(t, 1)
		_, _ = c.Write(make([]byte, 300<<10))
		_ = c.CloseWrite()
		got, err := io.ReadAll(c)
		if want := 6 + 300<<10; err != nil || len(got) != want || !strings.HasPrefix(string(got), "307200") {
			t.Errorf("%d bytes, want %d, %v", len(got), want, err)
		}
	})
	t.Run("the server ends first", func(t *testing.T) {
		c := dial(t, 2)
		if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
			t.Errorf("%q, %v", got, err)
		}
		_, _ = c.Write(make([]byte, 300<<10))
		c.Close()
		if got := <-reset; got.Error() != "307200 bytes" {
			t.Error(got)
		}
	})
	t.Run("the client resets", func(t *testing.T) {
		c := dial(t, 3)
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetLinger(0)
		c.Close()
		select {
		case err := <-reset: // a reset, or an end
			t.Logf("the server hears %v", err)
		case <-time.After(5 * time.Second):
			t.Error("the server hears nothing")
		}
	})
	t.Run("the server resets", func(t *testing.T) {
		got, err := io.ReadAll(dial(t, 4))
		t.Logf("the client hears %q, %v", got, err)
	})
	t.Run("large", func(t *testing.T) {
		c := dial(t, 5)
		body := bytes.Repeat([]byte("0123456789abcdef"), large/16)
		go func() {
			_, _ = c.Write(body)
			_ = c.CloseWrite()
		}()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
	for _, h2 := range []bool{false, true} {
		t.Run(fmt.Sprintf("large, HTTP/2 %t", h2), func(t *testing.T) {
			body := bytes.Repeat([]byte("0123456789abcdef"), large/16)
			res, err := client(t, h2).Post("http://10.96.0.62:9101/", "", bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if got, err := io.ReadAll(res.Body); err != nil || !bytes.Equal(got, body) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}
