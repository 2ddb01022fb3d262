package capture

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config"
)

// trialTime bounds a trial, which stays within the pod and takes less than a millisecond. Where it takes longer there is no CPU.
const trialTime = 5 * time.Second

// ErrNotCaptured says that the pod's traffic goes past its sidecar.
var ErrNotCaptured = errors.New("the pod has no capture rules")

// Captured gives ErrNotCaptured unless the rules of Default's ports are there, by a trial: a connection to Envoy's outbound
// port that they lead to the inbound one. It must be called as the sidecar's user and before Envoy listens, and needs no
// privilege. Any other error says why there was no trial.
func Captured(ctx context.Context) error {
	// Without a network namespace's IPv4 loopback there is none at all: the kernel gives it the address with the device.
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(config.InboundPort)))
	if err != nil {
		return fmt.Errorf("try the capture rules: %w", err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return setPriority(c, config.CallPriority) }}
	c, err := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(config.OutboundPort)))
	if errors.Is(err, unix.ECONNREFUSED) {
		return ErrNotCaptured // nobody listens there
	}
	if err != nil {
		return fmt.Errorf("try the capture rules: %w", err)
	}
	defer c.Close()
	// Somebody else may listen on the outbound port: it is ours only if it is the connection that came to us.
	if err := l.(*net.TCPListener).SetDeadline(time.Now().Add(trialTime)); err != nil {
		return err
	}
	accepted, err := l.Accept()
	if err != nil {
		return ErrNotCaptured
	}
	defer accepted.Close()
	if accepted.RemoteAddr().String() != c.LocalAddr().String() {
		return ErrNotCaptured
	}
	return nil
}
