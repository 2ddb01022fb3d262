package transparency

import (
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// unseen is the part of the patience that a connection may take which the server sees when the client is done already.
const unseen = 6

// exchange is what a client and a server do, as scripts for both.
type exchange struct {
	name string
	// protocols of ports at which it makes sense.
	protocols      []protocol
	client, server func(*side)
	// times it is made at once, where each time may come out differently; all must come out the same.
	times int
	// weight is how many places it takes of those that are made at a time.
	weight int
	// unserved is set where the server sees no connection.
	unserved bool
	// clientOnly is set where what the server sees is a matter of moments.
	clientOnly bool
	// lost is set where the server's pod vanishes.
	lost bool
}

// exchangeRun is an exchange that is being made.
type exchangeRun struct {
	layout   layout
	patience time.Duration
	// born is when the client began to connect.
	born time.Time

	mu     sync.Mutex
	moment map[string]chan struct{}

	// vanishing is what is waited for where the server vanishes.
	vanishing *vanishing
	arrived   sync.Once
}

func newRun(l layout, waits time.Duration) *exchangeRun {
	return &exchangeRun{layout: l, patience: waits, born: time.Now(), moment: map[string]chan struct{}{}}
}

func (r *exchangeRun) at(moment string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.moment[moment] == nil {
		r.moment[moment] = make(chan struct{})
	}
	return r.moment[moment]
}

// tell says to the other side that a moment has come.
func (r *exchangeRun) tell(moment string) {
	c := r.at(moment)
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-c:
	default:
		close(c)
	}
}

// await waits for what the other side tells.
func (s *side) await(moment string) {
	select {
	case <-s.at(moment):
	case <-time.After(s.patience):
		s.fail("%q does not come", moment)
	}
}

// slot is a port of a layout, used by one exchange at a time.
type slot struct {
	target   string
	listener *net.TCPListener
	accepted chan *net.TCPConn
}

// network is the world in which exchanges are made.
type network struct {
	pods  map[string]world.NS
	slots map[string]chan *slot // by layout and protocol
	// light and heavy bound what is made at a time, of exchanges with a weight and of others.
	light, heavy chan struct{}
	entering     sync.Mutex
}

func lane(l layout, p protocol) string { return l.name + " " + string(p) }

// listen opens all ports.
func (n *network) listen() error {
	n.slots = map[string]chan *slot{}
	for _, l := range all() {
		for _, p := range l.protocols {
			free := make(chan *slot, slots)
			for i := range slots {
				listener, err := n.pods[l.to].Listen(l.listens(p, i))
				if err != nil {
					return err
				}
				s := &slot{target: l.target(p, i), listener: listener.(*net.TCPListener), accepted: make(chan *net.TCPConn, 1000)}
				go s.accept()
				free <- s
			}
			n.slots[lane(l, p)] = free
		}
	}
	return nil
}

func (s *slot) accept() {
	for {
		c, err := s.listener.AcceptTCP()
		if err != nil {
			return
		}
		s.accepted <- c
	}
}

// strays closes connections of exchanges before.
func (s *slot) strays() {
	for {
		select {
		case c := <-s.accepted:
			c.Close()
		default:
			return
		}
	}
}

// make makes an exchange and gives what both sides see. One that is made several times must come out as wanted each time;
// any other is tried again, for a slow machine differs, too. A known difference is not.
func (n *network) make(ctx context.Context, x exchange, l layout, p protocol, want string) (seen string) {
	places := n.light
	if x.weight > 1 {
		places = n.heavy
	}
	n.entering.Lock() // who waits for several places must not meet another who does
	for range max(x.weight, 1) {
		places <- struct{}{}
	}
	n.entering.Unlock()
	defer func() {
		for range max(x.weight, 1) {
			<-places
		}
	}()
	s := <-n.slots[lane(l, p)]
	defer func() { n.slots[lane(l, p)] <- s }()
	attempts, waits := tries, patience
	if known(x.name, way{l.name, p}) != nil {
		attempts, waits = 1, littlePatience
	}
	if x.times > 1 {
		attempts = 1
	}
	for range attempts {
		for range max(x.times, 1) {
			if seen = n.once(ctx, x, l, s, waits); seen != want && want != "" {
				break
			}
		}
		if seen == want || want == "" {
			break
		}
	}
	return seen
}

func (n *network) once(ctx context.Context, x exchange, l layout, s *slot, waits time.Duration) string {
	s.strays()
	return n.play(ctx, x, newRun(l, waits), s)
}

// play makes an exchange at a slot.
func (n *network) play(ctx context.Context, x exchange, r *exchangeRun, s *slot) string {
	serving, stopServing := context.WithCancel(ctx)
	var servers []*side
	first, served := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		servers = r.serve(serving, x, s, first)
	}()
	client := n.dial(r, r.layout, s.target)
	if client.conn != nil {
		client.play(x.client)
	}
	if !x.unserved && client.conn != nil {
		select {
		case <-first:
		case <-time.After(r.patience / unseen):
		}
	}
	stopServing()
	<-served
	if client.conn != nil {
		client.close()
	}
	for _, s := range servers {
		s.settle()
	}
	out := append([]string{"client:"}, client.seen()...)
	if x.clientOnly {
		servers = nil
	}
	for i, s := range servers {
		out = append(out, fmt.Sprintf("server, connection %d:", i+1))
		out = append(out, s.seen()...)
	}
	return strings.Join(out, "\n")
}

// settle closes a server's end and waits until the other end has, too: the caller's sidecar knows then that its connection
// is gone, and the next exchange does not meet it.
func (s *side) settle() {
	_ = s.conn.CloseWrite()
	_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, s.conn)
	_ = s.conn.Close()
}

// serve plays the server's script on each connection until ctx ends and the scripts have; first is closed with the
// first connection.
func (r *exchangeRun) serve(ctx context.Context, x exchange, s *slot, first chan struct{}) []*side {
	var out []*side
	var playing sync.WaitGroup
	for {
		select {
		case c := <-s.accepted:
			one := newSide(r, c)
			out = append(out, one)
			playing.Go(func() { one.play(x.server) })
			if len(out) == 1 {
				close(first)
			}
			continue
		case <-ctx.Done():
		}
		playing.Wait()
		return out
	}
}

// dial connects from the client's pod.
func (n *network) dial(r *exchangeRun, l layout, target string) *side {
	var conn net.Conn
	err := n.pods[l.from].Do(func() (err error) {
		conn, err = (&net.Dialer{Timeout: patience, KeepAlive: -1}).Dial("tcp", target)
		return err
	})
	if err != nil {
		s := newSide(r, nil)
		s.note(trouble+"connecting fails: %s", ended(err))
		return s
	}
	return newSide(r, conn.(*net.TCPConn))
}
