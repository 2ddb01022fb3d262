// Package probe carries out an application's probes and lifecycle hooks as the kubelet would, from
// inside the pod. It may import gRPC, internal/appprobe, internal/capture and internal/netlimit.
//
// The semantics are those of k8s.io/kubernetes/pkg/probe and pkg/kubelet/lifecycle, v1.37.
package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/netlimit"
)

// Prober probes one pod.
type Prober struct {
	// podIP and not loopback, because an application that listens only on 127.0.0.1 must fail its probes, as without
	// the mesh.
	podIP      string
	asAsker    bool
	http1, h2c *http.Transport
}

// New returns a Prober for the pod with this address. With asAsker the application sees the kubelet's address, as
// without the mesh; this needs capture.CallersSeen. Without asAsker it sees the pod's own address.
func New(podIP netip.Addr, asAsker bool) *Prober {
	p := &Prober{podIP: podIP.String(), asAsker: asAsker}
	p.http1, p.h2c = p.transport(false), p.transport(true)
	return p
}

type askerKey struct{}

// AskedBy records the kubelet's address, which is the remote address of the HTTP request.
func AskedBy(ctx context.Context, remote string) context.Context {
	return context.WithValue(ctx, askerKey{}, remote)
}

// StatusError is an HTTP answer that is not a success.
type StatusError int

func (e StatusError) Error() string {
	return fmt.Sprintf("HTTP probe failed with statuscode: %d", int(e))
}

// Do runs h. It returns nil for success. userAgent is the kubelet's. A StatusError says that the application answered
// with a failure; any other error says that it did not answer, or not properly.
func (p *Prober) Do(ctx context.Context, h appprobe.Handler, userAgent string) error {
	if h.TimeoutSeconds == 0 {
		return p.do(ctx, h, userAgent)
	}
	timeout := time.Duration(h.TimeoutSeconds) * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s: %w", timeout, context.DeadlineExceeded))
	defer cancel()
	err := p.do(ctx, h, userAgent)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return err
}

func (p *Prober) do(ctx context.Context, h appprobe.Handler, userAgent string) error {
	switch {
	case h.HTTPGet != nil:
		return p.httpGet(ctx, h.HTTPGet, userAgent)
	case h.TCPSocket != nil:
		return p.tcp(ctx, h.TCPSocket)
	case h.GRPC != nil:
		return p.grpc(ctx, h.GRPC, userAgent)
	}
	return errors.New("the handler has no action")
}

func (p *Prober) tcp(ctx context.Context, action *appprobe.TCPSocket) error {
	c, err := p.dial(ctx, "tcp", p.address(action.Host, action.Port))
	if err != nil {
		return err
	}
	// The connection itself is the whole probe.
	_ = c.Close()
	return nil
}

// address joins host, or the pod's own address where there is none, and port.
func (p *Prober) address(host string, port int32) string {
	if host == "" {
		host = p.podIP
	}
	return net.JoinHostPort(host, strconv.Itoa(int(port)))
}

// dial connects to an address; to the pod's own in the name of who asks.
func (p *Prober) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	asker, ok := p.asker(ctx, addr)
	if !ok {
		return dialer().DialContext(ctx, network, addr)
	}
	d := dialer()
	linger := d.Control
	d.Control = func(network, address string, c syscall.RawConn) error {
		return errors.Join(linger(network, address, c), capture.CallerControl(network, address, c))
	}
	c, err := d.DialContext(ctx, network, asker)
	var failed *net.OpError
	if errors.As(err, &failed) { // which names the asker's address
		failed.Addr, _ = net.ResolveTCPAddr(network, addr)
	}
	return c, err
}

// asker is the address to connect to so that the application at this one, the pod's own, sees who asks.
func (p *Prober) asker(ctx context.Context, addr string) (string, bool) {
	host, port, err := net.SplitHostPort(addr)
	remote, _ := ctx.Value(askerKey{}).(string)
	ip := netlimit.Client(remote)
	if !p.asAsker || err != nil || !ip.IsValid() || host != p.podIP {
		return "", false
	}
	if ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.Is4() != netip.MustParseAddr(p.podIP).Is4() {
		return "", false
	}
	return net.JoinHostPort(ip.String(), port), true
}

// dialer leaves no sockets behind in TIME_WAIT for a minute, which frequent probes would pile up:
// https://issue.k8s.io/89898
func dialer() *net.Dialer {
	return &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		cerr := c.Control(func(fd uintptr) {
			err = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 1})
		})
		return errors.Join(cerr, err)
	}}
}
