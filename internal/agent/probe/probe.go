// Package probe carries out an application's probes and lifecycle hooks as the kubelet would, from
// inside the pod. It may import the Kubernetes API types, gRPC and internal/appprobe.
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

	corev1 "k8s.io/api/core/v1"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

// Prober probes one pod.
type Prober struct {
	// podIP and not loopback: an application that listens on 127.0.0.1 only has to fail its probes
	// as it does without the mesh.
	podIP      string
	http1, h2c *http.Transport
}

// New gives a Prober for the pod with this address.
func New(podIP netip.Addr) *Prober {
	return &Prober{podIP: podIP.String(), http1: transport(false), h2c: transport(true)}
}

// StatusError is an HTTP answer that is not a success.
type StatusError int

func (e StatusError) Error() string {
	return fmt.Sprintf("HTTP probe failed with statuscode: %d", int(e))
}

// Do carries out h. No error is success; userAgent is the kubelet's own, passed on. A StatusError says
// that the application answered; every other error that it did not, or not as it should.
func (p *Prober) Do(ctx context.Context, h appprobe.Handler, userAgent string) error {
	if h.TimeoutSeconds == 0 {
		return p.do(ctx, h, userAgent)
	}
	timeout := time.Duration(h.TimeoutSeconds) * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("no answer within %s", timeout))
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

func (p *Prober) tcp(ctx context.Context, action *corev1.TCPSocketAction) error {
	c, err := dialer().DialContext(ctx, "tcp", p.address(action.Host, action.Port.IntVal))
	if err != nil {
		return err
	}
	// That the connection could be made is all that was asked.
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
