package mtls

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
	"github.com/mizzen-mesh/mizzen/test/internal/wire"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

const marker = "nobody-may-read-this"

// Two pods call each other, and one calls itself; what goes over the wire between them is TLS 1.3, and who has
// no identity is served where the mode lets him in.
func TestTwoPods(t *testing.T) {
	pods, cp, client, server := start(t)
	t.Run("judged", func(t *testing.T) { judgedPod(t, pods, cp) })
	if err := cp.SetMode(config.Permissive); err != nil {
		t.Fatal(err)
	}
	served := serveHTTP(t, pods.Server, world.ServerIP, webPort, "server")
	serveHTTP(t, pods.Server, world.ServerIP, plainPort, "plain")
	serveHTTP(t, pods.Client, world.ClientIP, webPort, "client")
	serveHTTP(t, pods.Server, "["+world.ServerIPv6+"]", webPort, "server")
	serveGreeter(t, pods.Server)
	byIP := netip.AddrPortFrom(netip.MustParseAddr(world.ServerIP), webPort)
	await(t, "the first call", func() bool { _, err := get(web); return err == nil })

	for _, mode := range []config.MTLSMode{config.Permissive, config.Strict, config.Permissive} {
		t.Run(string(mode), func(t *testing.T) {
			if err := cp.SetMode(mode); err != nil {
				t.Fatal(err)
			}
			await(t, "the mode holds", func() bool { return (outside(byIP.String()) == nil) == (mode == config.Permissive) })
			before := served.Load()
			// A copy that meets a connection of the mode before, which is about to end, is not made again.
			await(t, "a copy is served, in strict mode with mTLS", func() bool {
				if got, err := get(mirrored); got != "plain" || err != nil {
					t.Fatalf("a request that is copied: %q, %v", got, err)
				}
				return served.Load() > before
			})
			heard := listenOnWire(t)
			for target, want := range map[string]string{web: "server", self: "client", byIP.String(): "server"} {
				if got, err := get(target); got != want || err != nil {
					t.Errorf("%s: got %q, %v, want %q", target, got, err, want)
				}
			}
			if got, err := greet(greeter); got != "welcome\n"+marker || err != nil {
				t.Errorf("a server that speaks first: %q, %v", got, err)
			}
			if got := heard(); !bytes.Contains(got, []byte("\x00\x2b\x00\x02\x03\x04")) || bytes.Contains(got, []byte(marker)) || bytes.Contains(got, []byte("welcome")) {
				t.Errorf("on the wire, in %d bytes: TLS 1.3 %t, plain text %t", len(got), bytes.Contains(got, []byte("\x00\x2b\x00\x02\x03\x04")), bytes.Contains(got, []byte(marker)))
			}
			// A port that is not captured has plain text, by Service and by address.
			for _, target := range []string{plain, fmt.Sprintf("%s:%d", world.ServerIP, plainPort)} {
				if got, err := get(target); got != "plain" || err != nil {
					t.Errorf("%s: %q, %v", target, got, err)
				}
			}
			if !bytes.Contains(heard(), []byte(marker)) {
				t.Error("the wire was not heard")
			}
		})
	}
	t.Run("nothing lost", func(t *testing.T) { nothingLost(t, pods) })
	t.Run("callers", func(t *testing.T) { callersSeen(t, cp) })
	t.Run("many callers", func(t *testing.T) { manyCallers(t, server) })
	t.Run("addresses change", func(t *testing.T) { addressesChange(t, pods, cp) })
	t.Run("many addresses", func(t *testing.T) { manyAddresses(t, pods, cp, client) })
	t.Run("under load", func(t *testing.T) { changeUnderLoad(t, cp, byIP.String()) })
	t.Run("connections that live", func(t *testing.T) { liveConnections(t, cp, server) })
	t.Run("silent connections", func(t *testing.T) { silentConnections(t, pods, cp, server) })
	t.Run("pauses", func(t *testing.T) {
		for name, f := range map[string]func(*testing.T, *world.Pods){"of a reader": pausedReader, "before the answer to a client that half-closes": halfClosed} {
			t.Run(name, func(t *testing.T) { t.Parallel(); f(t, pods) })
		}
	})
	t.Run("the server's node is gone", func(t *testing.T) { peerGone(t, pods) }) // the last: the link was down
}

// changeUnderLoad goes from permissive to strict and back while calls are made, old and new connections.
func changeUnderLoad(t *testing.T, cp *world.ControlPlane, byIP string) {
	var made, failed atomic.Int32
	var wg sync.WaitGroup
	stop := make(chan struct{})
	check := func(what string, err error) {
		made.Add(1)
		if err != nil {
			failed.Add(1)
			t.Errorf("%s: %v", what, err)
		}
	}
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_, err := get(web)
				check("HTTP", err)
				_, err = greet(greeter)
				check("bytes", err)
				_, err = get(byIP)
				check("by address", err)
			}
		})
	}
	for range 2 {
		for _, mode := range []config.MTLSMode{config.Strict, config.Permissive} {
			if err := cp.SetMode(mode); err != nil {
				t.Error(err)
			}
			await(t, "the mode holds", func() bool { return (outside(byIP) == nil) == (mode == config.Permissive) })
			at := made.Load()
			await(t, "calls", func() bool { return made.Load() > at+30 })
		}
	}
	close(stop)
	wg.Wait()
	t.Logf("%d calls, %d failed", made.Load(), failed.Load())
}

// serveHTTP counts the requests.
func serveHTTP(t *testing.T, n world.NS, ip string, port int, name string) *atomic.Int32 {
	t.Helper()
	served := &atomic.Int32{}
	l, err := n.Listen(fmt.Sprintf("%s:%d", ip, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			if r.URL.Path == peerPath {
				name, _, _ := net.SplitHostPort(r.RemoteAddr)
				fmt.Fprint(w, name)
				return
			}
			fmt.Fprint(w, name)
		}))
	}()
	return served
}

func serveGreeter(t *testing.T, n world.NS) {
	t.Helper()
	l, err := n.Listen(fmt.Sprintf("%s:%d", world.ServerIP, greeterPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	greetAll(l)
}

// greetAll says the first word to each client, and says back what it hears.
func greetAll(l net.Listener) {
	go listentest.Serve(l, func(c net.Conn) {
		_, _ = io.WriteString(c, "welcome\n")
		_, _ = io.Copy(c, c)
	})
}

// peerPath is answered with the address that the application sees as the caller's.
const peerPath = "/peer"

// get calls over a new connection.
func get(target string) (string, error) { return getPath(target, "/") }

func getPath(target, path string) (string, error) {
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	req, err := http.NewRequest("GET", "http://"+target+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("x-text", marker)
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", res.StatusCode)
	}
	return string(body), err
}

// greet waits for the server's word first.
func greet(target string) (string, error) {
	c, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	b := make([]byte, len("welcome\n")+len(marker))
	if _, err := io.ReadFull(c, b[:len("welcome\n")]); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, marker); err != nil {
		return "", err
	}
	_, err = io.ReadFull(c, b[len("welcome\n"):])
	return string(b), err
}

// outside calls as somebody without a sidecar: the capture rules leave the proxy's own user alone.
func outside(target string) error {
	b, err := asOutsider(target, "/")
	if err == nil && !strings.HasPrefix(b, "HTTP/1.1 200") {
		err = fmt.Errorf("got %q", b)
	}
	return err
}

func asOutsider(target, path string) (string, error) { return asOutsiderWith("GET", target, path) }

func asOutsiderWith(method, target, path string) (string, error) {
	return asOutsiderBy(&net.Dialer{Timeout: 10 * time.Second}, method, target, path)
}

func asOutsiderBy(d *net.Dialer, method, target, path string) (string, error) {
	// The thread must live on: Envoy ends with the thread that has started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if _, err := unix.SetfsuidRetUid(config.ProxyUID); err != nil {
		return "", err
	}
	defer func() { _, _ = unix.SetfsuidRetUid(0) }()
	c, err := d.Dial("tcp", target)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(c, method+" "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	b, err := io.ReadAll(c)
	return string(b), err
}

// listenOnWire hears what the two pods say to each other.
func listenOnWire(t *testing.T) (heard func() []byte) {
	t.Helper()
	w, err := wire.Listen("/proc/thread-self/ns/net", netip.MustParseAddr(world.ClientIP), netip.MustParseAddr(world.ServerIP))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return func() []byte {
		t.Helper()
		b, err := w.Heard()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}
