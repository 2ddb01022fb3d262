package envoy

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// watchCallers makes the kernel notice a caller of the listener that vanished without closing its connection. An accepted
// connection has the options of the listening socket: tcp(7).
func watchCallers(l *listenerv3.Listener, cfg *config.Mesh) {
	l.SocketOptions = append(l.SocketOptions, keepalive(cfg.Traffic.PeerTimeout.Duration)...)
}

// watchInbound does the same for callers of the pod. Besides, it makes each silent connection carry a packet, and another
// one soon after if that is not answered, within the drain time: the capture rules can only end a connection that has
// packets (internal/capture/ends.go). A fifth of the time is left for the agent to notice.
func watchInbound(l *listenerv3.Listener, cfg *config.Mesh) {
	fifth := cfg.MTLS.DrainTime.Duration / 5
	l.SocketOptions = append(l.SocketOptions, keepaliveWithin(cfg.Traffic.PeerTimeout.Duration, 3*fifth, fifth)...)
}

// watchPeers makes the kernel notice a peer of the cluster that vanished while the connection is silent. For bytes that are
// not acknowledged the kernel's own timeout holds, as without a sidecar. TCP_USER_TIMEOUT would also end the connection of
// an application that stops reading for that long (tcp(7)), for example because it works on what it has read.
//
// HTTP/2 pings would also notice an application that hangs. But they reach the application's own server, and a common one
// ends the connection of a client that sends more than one in five minutes, or any while there is no call:
// https://pkg.go.dev/google.golang.org/grpc/keepalive#EnforcementPolicy
func watchPeers(c *clusterv3.Cluster, timeout time.Duration) { addOptions(c, keepalive(timeout)) }

// peerTimeout returns the timeout of the Service, or else that of the mesh.
func peerTimeout(svc *mesh.Service, cfg *config.Mesh) time.Duration {
	if own := svc.Policy.PeerTimeout; own != nil {
		return *own
	}
	return cfg.Traffic.PeerTimeout.Duration
}

// watchCalls does the same for bytes of calls that are not acknowledged. A call waits for its answer, and only the sidecar
// knows the call's connection.
func watchCalls(c *clusterv3.Cluster, timeout time.Duration) {
	if timeout > 0 {
		addOptions(c, []*corev3.SocketOption{socketOption("TCP_USER_TIMEOUT", tcpLevel, 18, timeout.Milliseconds())})
	}
}

func addOptions(c *clusterv3.Cluster, options []*corev3.SocketOption) {
	if len(options) == 0 {
		return
	}
	if c.UpstreamBindConfig == nil {
		c.UpstreamBindConfig = &corev3.BindConfig{}
	}
	c.UpstreamBindConfig.SocketOptions = append(c.UpstreamBindConfig.SocketOptions, options...)
}

// probes is how many keepalive probes a peer may leave unanswered, mostProbes the most that the kernel allows
// (MAX_TCP_KEEPCNT).
const probes, mostProbes = 3, 127

// Levels of socket options in Linux.
const (
	socketLevel = 1 // SOL_SOCKET
	tcpLevel    = 6 // IPPROTO_TCP
)

func socketOption(description string, level, name, value int64) *corev3.SocketOption {
	return &corev3.SocketOption{
		Description: description, Level: level, Name: name,
		Value: &corev3.SocketOption_IntValue{IntValue: value}, State: corev3.SocketOption_STATE_PREBIND,
	}
}

// mostSilence is how long a connection may be without a packet. conntrack in the pod knows where a redirected connection
// goes, and forgets a half-closed one after a minute of silence (nf_conntrack_tcp_timeout_close_wait).
const mostSilence = 30 * time.Second

// keepalive ends a silent connection when its peer has not answered for the timeout. The kernel probes from half of the
// timeout on. 0 is no keepalive.
func keepalive(timeout time.Duration) []*corev3.SocketOption {
	return keepaliveWithin(timeout, timeout, timeout)
}

// keepaliveWithin also bounds the silence before the first probe, and the interval between probes.
func keepaliveWithin(timeout, silence, interval time.Duration) []*corev3.SocketOption {
	if timeout == 0 {
		return nil
	}
	silence = max(min(timeout/2, mostSilence, silence), time.Second).Truncate(time.Second)
	left := timeout - silence
	interval = max(min(left/probes, interval), left/mostProbes, time.Second).Truncate(time.Second)
	return []*corev3.SocketOption{
		socketOption("SO_KEEPALIVE", socketLevel, 9, 1),
		socketOption("TCP_KEEPIDLE", tcpLevel, 4, int64(silence/time.Second)),
		socketOption("TCP_KEEPINTVL", tcpLevel, 5, int64(interval/time.Second)),
		socketOption("TCP_KEEPCNT", tcpLevel, 6, min(max(int64(left/interval), probes), mostProbes)),
	}
}
