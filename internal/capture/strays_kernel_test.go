package capture

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// A segment that conntrack cannot place, as one that comes late or twice, leaves the connection alone. Without our rule
// it is not redirected, so it reaches the port that the application listens on, and the pod's kernel answers with a reset.
func TestStraySegments(t *testing.T) {
	for _, c := range []struct {
		name, ip string
		excluded bool
	}{{"IPv4", podV4, false}, {"IPv6", podV6, false}, {"excluded port", podV4, true}} {
		t.Run(c.name, func(t *testing.T) {
			pod, peer := newPod(t)
			s := Default()
			s.CapturesOwnCalls = true
			if c.excluded {
				s.ExcludeInboundPorts = []uint16{8080}
			}
			pod.do(func() error { _, err := Install(s); return err })
			pod.echo(fmt.Sprintf(":%d", fixed.InboundPort))
			pod.echo(":8080")
			conn := peer.connect(net.JoinHostPort(c.ip, "8080"))
			say(t, conn, "before")
			peer.stray(conn)
			say(t, conn, "after")
		})
	}
}

// say holds that the connection echoes.
func say(t *testing.T, c net.Conn, word string) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	got := make([]byte, len(word))
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatalf("%s: %v", word, err)
	}
	if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
		t.Fatalf("%s: got %q, %v", word, got, err)
	}
}

func (n ns) connect(addr string) *net.TCPConn {
	n.t.Helper()
	var c net.Conn
	n.do(func() (err error) { c, err = net.DialTimeout("tcp", addr, 5*time.Second); return err })
	n.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func (n ns) echo(addr string) {
	n.t.Helper()
	n.answer(addr, func(c net.Conn) { _, _ = io.Copy(c, c) })
}

// stray sends a segment of the connection that is far outside of the window, and acknowledges what has come.
func (n ns) stray(c *net.TCPConn) {
	n.t.Helper()
	next, sent := sequences(n.t, c)
	from, to := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	segment := segment(from, to, sent+1<<30, next, []byte("stray"))
	n.do(func() error {
		raw, err := net.Dial("ip:tcp", to.Addr().String())
		if err != nil {
			return err
		}
		defer raw.Close()
		_, err = raw.Write(segment)
		return err
	})
}

// sequences are the numbers of the next byte that is to come, and to be sent (tcp(7), TCP_REPAIR).
func sequences(t *testing.T, c *net.TCPConn) (next, sent uint32) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	number := func(fd, queue int) uint32 {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue)
		}
		n := 0
		if err == nil {
			n, err = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ)
		}
		return uint32(n)
	}
	const recvQueue, sendQueue, offWithoutProbe = 1, 2, -1
	if cerr := raw.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1)
		next, sent = number(int(fd), recvQueue), number(int(fd), sendQueue)
		if err == nil {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, offWithoutProbe)
		}
	}); cerr != nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
	return next, sent
}

// segment is a TCP segment with ACK and PSH.
func segment(from, to netip.AddrPort, seq, ack uint32, data []byte) []byte {
	b := make([]byte, 20, 20+len(data))
	binary.BigEndian.PutUint16(b[0:], from.Port())
	binary.BigEndian.PutUint16(b[2:], to.Port())
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], ack)
	b[12], b[13] = 5<<4, 1<<4|1<<3
	binary.BigEndian.PutUint16(b[14:], 1000)
	b = append(b, data...)
	// The pseudo-headers of IPv4 and IPv6 have the same sum.
	pseudo := append(append(from.Addr().AsSlice(), to.Addr().AsSlice()...), 0, unix.IPPROTO_TCP, byte(len(b)>>8), byte(len(b)))
	binary.BigEndian.PutUint16(b[16:], checksum(append(pseudo, b...)))
	return b
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
