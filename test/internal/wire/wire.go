// Package wire hears what two addresses say to each other in a network namespace. It may import nothing of
// this module, and needs root.
package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Wire is a socket that gets a copy of every packet between two addresses, on each link that it passes.
type Wire struct {
	fd    int
	heard []byte
}

// room for packets that are not read yet.
const room = 16 << 20

// Listen hears the IPv4 packets between two addresses in the namespace that a file stands for, such as
// /proc/<pid>/ns/net.
func Listen(netns string, a, b netip.Addr) (*Wire, error) {
	if !a.Is4() || !b.Is4() {
		return nil, fmt.Errorf("addresses %s and %s: want IPv4", a, b)
	}
	w := &Wire{}
	err := within(netns, func() (err error) {
		// Without the link's header. No protocol yet: packets come once the filter is there.
		w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("socket in %s: %w", netns, err)
	}
	if err := errors.Join(w.filter(a.As4(), b.As4()), unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room),
		unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: hostToNetwork(unix.ETH_P_ALL)})); err != nil {
		_ = unix.Close(w.fd)
		return nil, err
	}
	return w, nil
}

func hostToNetwork(n uint16) uint16 { return n<<8 | n>>8 }

// filter keeps IPv4 between the two: version in the first byte, source at 12, destination at 16.
func (w *Wire) filter(a, b [4]byte) error {
	number := func(ip [4]byte) uint32 {
		return uint32(ip[0])<<24 | uint32(ip[1])<<16 | uint32(ip[2])<<8 | uint32(ip[3])
	}
	raw, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: 4, SkipTrue: 8},
		bpf.LoadAbsolute{Off: 12, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: number(a), SkipFalse: 2},
		bpf.LoadAbsolute{Off: 16, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: number(b), SkipTrue: 3, SkipFalse: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: number(b), SkipTrue: 3},
		bpf.LoadAbsolute{Off: 16, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: number(a), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 17},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		return err
	}
	program := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		program[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	return unix.SetsockoptSockFprog(w.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
}

// Heard gives every packet so far, one behind the other with their IP headers. A packet is heard before its
// receiver gets it. The error says that some were lost.
func (w *Wire) Heard() ([]byte, error) {
	for b := make([]byte, 1<<17); ; {
		n, _, err := unix.Recvfrom(w.fd, b, 0)
		switch {
		case errors.Is(err, unix.EAGAIN):
			stats, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
			if err == nil && stats.Drops > 0 {
				err = fmt.Errorf("%d packets were lost", stats.Drops)
			}
			return w.heard, err
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return nil, err
		default:
			w.heard = append(w.heard, b[:n]...)
		}
	}
}

// Close ends it.
func (w *Wire) Close() error { return unix.Close(w.fd) }

// within calls f on a thread in another network namespace. What f opens stays there.
func within(netns string, f func() error) error {
	there, err := os.Open(netns)
	if err != nil {
		return err
	}
	defer there.Close()
	done := make(chan error, 1)
	go func() {
		// Not unlocked: the thread ends with the goroutine, and nobody else gets it in the other namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}
