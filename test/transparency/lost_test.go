package transparency

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// noticed is the time within which a client with keepalive must notice that its server is gone without a word, as with its
// node: the sidecar keeps the client's own keepalive from it.
const noticed = 15 * time.Second

// lostExchanges are under way when the server's pod vanishes from the network.
func lostExchanges() []exchange {
	var out []exchange
	x := func(name string, protocols []protocol, client, server func(*side)) {
		out = append(out, exchange{name: "lost peers/" + name, lost: true, protocols: protocols, client: client, server: server})
	}
	x("an idle connection", bytesPorts, func(c *side) { c.send(pattern(10)); c.receive(2); c.lostPeer() }, func(s *side) { s.receive(10); s.sends("ok") })
	x("an HTTP request under way", httpPorts, func(c *side) { c.sends(asking("GET / HTTP/1.1")); c.await("asked"); c.lostPeer() }, func(s *side) { s.request(); s.tell("asked") })
	x("an HTTP answer under way", httpPorts, func(c *side) { c.sends(asking("GET / HTTP/1.1")); c.head(); c.exactly(5); c.lostPeer() }, func(s *side) {
		s.request()
		s.sends("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
	})
	x("a WebSocket", httpPorts, func(c *side) {
		c.sends(asking("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"))
		c.response("GET")
		c.receive(2)
		c.lostPeer()
	}, func(s *side) {
		s.request()
		s.sends("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nok")
	})
	x("a gRPC stream", grpcPorts, func(c *side) {
		h := newH2(c, true)
		s := h.call()
		h.data(s, true, frame([]byte("hello")))
		h.bodyOf(s, 7)
		c.lostStream(h, s)
	}, func(side *side) {
		h := newH2(side, false)
		s := h.next()
		h.answers(s)
		h.data(s, false, frame([]byte("hi")))
	})
	return out
}

// vanishing brings exchanges to the moment at which the server's pod vanishes.
type vanishing struct {
	ready sync.WaitGroup
	gone  chan struct{}
}

// keepsAlive makes the client's kernel notice within some seconds, as careful programs do. While something is not
// acknowledged there is no keepalive, but the user timeout (tcp(7)).
func (s *side) keepsAlive() {
	err := s.conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3})
	raw, rawErr := s.conn.SyscallConn()
	if rawErr == nil {
		rawErr = raw.Control(func(fd uintptr) {
			err = errors.Join(err, unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000))
		})
	}
	if err := errors.Join(err, rawErr); err != nil {
		s.fail("keepalive: %v", err)
	}
}

// lostPeer waits for the server's pod to vanish, and notes whether the client hears of it.
func (s *side) lostPeer() {
	s.keepsAlive()
	s.arrive()
	<-s.vanishing.gone
	_ = s.conn.SetReadDeadline(time.Now().Add(noticed))
	// An answer of a sidecar is as good as an end.
	if _, err := s.in.ReadByte(); err != nil && ended(err) == "open" {
		s.fail("does not hear within %s that the server is gone", noticed)
	}
	s.note("hears that the server is gone")
}

// lostStream is lostPeer for a stream.
func (s *side) lostStream(h *h2, of *stream) {
	s.keepsAlive()
	s.arrive()
	<-s.vanishing.gone
	h.change.L.Lock()
	defer h.change.L.Unlock()
	timer := time.AfterFunc(noticed, h.change.Broadcast)
	defer timer.Stop()
	for deadline := time.Now().Add(noticed); !of.over() && h.end == ""; h.change.Wait() {
		if time.Now().After(deadline) {
			s.fail("does not hear within %s that the server is gone", noticed)
		}
	}
	s.note("hears that the server is gone")
}

// arrive tells that the exchange is under way.
func (s *side) arrive() { s.arrived.Do(s.vanishing.ready.Done) }

// lose makes the exchanges of which the server vanishes, all at the same time.
func (n *network) lose(ctx context.Context) ([]outcome, error) {
	exchanges := slices.DeleteFunc(lostExchanges(), func(x exchange) bool { return !whole(*only).MatchString(x.name) })
	out := make([]outcome, len(exchanges))
	v := &vanishing{gone: make(chan struct{})}
	var mu sync.Mutex
	var made sync.WaitGroup
	attempt := func(x exchange, l layout, p protocol, then func(seen string)) {
		v.ready.Add(1)
		made.Go(func() {
			s := <-n.slots[lane(l, p)]
			r := newRun(l, patience)
			r.vanishing = v
			defer r.arrived.Do(v.ready.Done) // also where it does not come so far
			then(n.play(ctx, x, r, s))
		})
	}
	for i, x := range exchanges {
		out[i] = outcome{exchange: x, seen: map[way]string{}}
		attempt(x, directLost, x.protocols[0], func(seen string) { out[i].direct = seen })
		for _, w := range x.ways() {
			attempt(x, layoutNamed(w.layout), w.protocol, func(seen string) {
				mu.Lock()
				defer mu.Unlock()
				out[i].seen[w] = seen
			})
		}
	}
	v.ready.Wait()
	// What is not acknowledged is another matter: it has no bound, with a sidecar or without.
	for _, pod := range n.pods {
		if err := world.Await("nothing is under way", pod.Quiet); err != nil {
			return nil, err
		}
	}
	for _, name := range vanishingPods {
		if err := n.pods[name].Cut(); err != nil {
			return nil, err
		}
	}
	close(v.gone)
	made.Wait()
	for _, o := range out {
		for w, seen := range o.seen {
			if seen == o.direct {
				delete(o.seen, w)
			}
		}
	}
	return out, nil
}
