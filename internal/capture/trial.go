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

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// trialTime bounds a trial. The trial stays within the pod and takes less than a millisecond, unless the node is out of
// CPU.
const trialTime = 5 * time.Second

// ErrNotCaptured says that the pod's traffic bypasses its sidecar.
var ErrNotCaptured = errors.New("the pod has no capture rules")

// Captured returns ErrNotCaptured unless the rules for Default's ports exist. It tries a connection to Envoy's outbound
// port, which these rules redirect to the inbound port. It must be called as the sidecar's user and before Envoy
// listens, and needs no privilege. Any other error says why the trial was impossible.
func Captured(ctx context.Context) error {
	// Every network namespace with lo has IPv4 loopback, because the kernel assigns the address with the device.
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(fixed.InboundPort)))
	if err != nil {
		return fmt.Errorf("try the capture rules: %w", err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(ctx, trialTime)
	defer cancel()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { return setPriority(c, fixed.CallPriority) }}
	c, err := d.DialContext(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(fixed.OutboundPort)))
	if errors.Is(err, unix.ECONNREFUSED) {
		return ErrNotCaptured // nobody listens there
	}
	if err != nil {
		return fmt.Errorf("try the capture rules: %w", err)
	}
	defer c.Close()
	// Another process may listen on the outbound port, so the trial succeeds only if the connection arrived here.
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
