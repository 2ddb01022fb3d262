package agent

import (
	"context"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/internal/agent/addresses"
	"github.com/mizzen-mesh/mizzen/internal/agent/ends"
	"github.com/mizzen-mesh/mizzen/internal/agent/identity"
	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/agent/probe"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/socketlb"
)

// socketlbTimeout bounds the check where connections to Services go, which only waits for DNS.
const socketlbTimeout = time.Second

// sidecar is the kind of an agent beside an application, whose traffic is captured.
type sidecar struct{}

func (sidecar) name() string { return "sidecar" }

// listen waits for the capture rules. What they and the node can do is part of what Envoy tells the control plane.
func (sidecar) listen(ctx context.Context, s *Settings, log *slog.Logger) (net.Listener, error) {
	if s.CaptureByCNI {
		if err := awaitCNI(ctx, s.Listen, capture.Captured, log); err != nil || ctx.Err() != nil {
			return nil, err
		}
	}
	listener, err := listen(ctx, s.Listen)
	if err != nil {
		return nil, err
	}
	if s.AwaitCapture {
		if err := awaitCapture(ctx, capture.Captured, log); err != nil {
			listener.Close()
			return nil, nil //nolint:nilnil,nilerr // the pod ends
		}
	}
	// A mesh without identities has different capture rules.
	s.Node.CallerAddresses = s.IdentityAddress != "" && !slices.ContainsFunc(s.Node.IPs, func(ip netip.Addr) bool { return !capture.CallersSeen(ip) })
	if s.IdentityAddress != "" && !s.Node.CallerAddresses {
		log.Warn("the application sees this pod's own address as the address of all callers; the log of the init container, or of mizzen-cni on the node, says why")
	}
	s.Node.SocketLoadBalancing = socketLoadBalancing(ctx, s.ControlPlane, log)
	return listener, nil
}

// listen needs no IP family in the address: Go listens on both families of the node. Early callers wait for an answer.
func listen(ctx context.Context, address string) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", address)
}

// identityParts report callers in plain text, end connections that are refused now, and ask about addresses that the
// application calls.
func (sidecar) identityParts(a *agent) (func(grpc.ServiceRegistrar), []func(context.Context), error) {
	s, log := a.settings, a.log
	a.plain = plaintext.New(plaintext.Options{Registerer: a.metrics.registry})
	ends := ends.New(ends.Options{Callers: a.plain, Envoy: a.admin, Registerer: a.metrics.registry, Log: log})
	if err := capture.CanEnd(); err != nil {
		log.Warn("silent connections that strict or a policy refuses now end only at their next byte, and those with mTLS not at all", "error", err)
	}
	addresses, err := newAddresses(s, func() *identity.Identity { return a.identity }, a.metrics.registry, log)
	if err != nil {
		return nil, nil, err
	}
	register := func(r grpc.ServiceRegistrar) {
		a.plain.Register(r)
		addresses.Register(r)
	}
	a.onStart = append(a.onStart, a.plain.EnvoyStarts, ends.EnvoyStarts)
	return register, []func(context.Context){addresses.Run, ends.Run}, nil
}

// pages are the application's probes, and the report of callers in plain text.
func (sidecar) pages(a *agent, mux *http.ServeMux) {
	a.prober = probe.New(a.settings.Node.IPs[0], a.settings.Node.CallerAddresses)
	mux.HandleFunc("GET "+appprobe.PathPrefix, a.serveProbe)
	mux.HandleFunc("GET "+agentapi.PlainTextPath, loopbackOnly(a.servePlainText))
}

// socketLoadBalancing reports whether the node translates Service addresses in sockets, judged by a connection to the
// control plane's Service.
func socketLoadBalancing(ctx context.Context, controlPlane string, log *slog.Logger) bool {
	ctx, cancel := context.WithTimeout(ctx, socketlbTimeout)
	defer cancel()
	translated, err := socketlb.Translates(ctx, controlPlane)
	switch {
	case err != nil:
		log.Info("cannot tell whether this node translates Service addresses in sockets", "error", err)
	case translated:
		log.Warn("calls to Services are not balanced: this node translates a Service's address to a pod's before the sidecar sees it", "remedy", fixed.SocketLoadBalancingRemedy)
	}
	return translated
}

// newAddresses returns Addresses that ask the ADS server with the current identity.
func newAddresses(s Settings, current func() *identity.Identity, r prometheus.Registerer, log *slog.Logger) (*addresses.Addresses, error) {
	host, port, err := s.controlPlane()
	if err != nil {
		return nil, err // Settings.Validate has seen it
	}
	at := net.JoinHostPort(absolute(host), strconv.Itoa(int(port)))
	return addresses.New(addresses.Options{
		Node:       s.Node.Proto(),
		Dial:       func(ctx context.Context) (net.Conn, error) { return current().Dial(ctx, host, at) },
		Registerer: r,
		Log:        log,
	}), nil
}

// drain waits until no request is active, at most DrainTimeout, even after the end of ctx. The kubelet ends a native
// sidecar after all other containers of the pod, so nobody can begin a new request:
// https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
func (sidecar) drain(ctx context.Context, a *agent, envoy *envoyProcess) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.settings.DrainTimeout)
	defer cancel()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	start := time.Now()
	for asked := false; ; {
		active, err := a.admin.active(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			a.log.Warn("drain: Envoy does not report its active requests", "error", err)
			return
		case err == nil && active == 0:
			a.log.Info("drained", "took", time.Since(start))
			return
		case !asked:
			asked = true
			if err := a.admin.drain(ctx); err != nil {
				a.log.Warn("drain: Envoy cannot drain", "error", err)
			}
		}
		select {
		case <-envoy.done:
			return
		case <-ctx.Done():
			a.log.Warn("drain: stopping with requests still active", "active", active, "timeout", a.settings.DrainTimeout)
			return
		case <-tick.C:
		}
	}
}

// runtime lifts limits.
//
// It makes HTTP detection reject other protocols at the first wrong letter. Envoy's newer parser accepts any word as a
// method and waits for the end of the line, which never comes in other protocols.
//
// It turns resets between Envoy's internal listeners into ends. Otherwise an ordinary end after an answer would arrive
// as a reset on an undeclared port, whose connections go through Envoy twice, and unread data would be lost
// (test/transparency, "slow reader"). https://github.com/envoyproxy/envoy/pull/46713
//
// On streams that a client resets: by default Envoy ends an HTTP/2 connection of which half of 500 calls were given up
// within a second, as calls are that are made twice and the slower one dropped. Where others call, the rate of resets
// stays bounded (stream_reset_rate).
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_conn_man/runtime
func (sidecar) runtime() object {
	return object{
		"envoy.reloadable_features.http_inspector_use_balsa_parser":      false,
		"envoy.reloadable_features.enable_send_rst_on_user_space_socket": false,
		"overload.premature_reset_total_stream_count":                    math.MaxUint32,
	}
}

// Limits of a sidecar's heap, as shares of the largest: where the container's memory is limited, the kernel would kill it with
// all its connections. Envoy first gives free memory back, then answers new requests itself, then resets those that hold the most
// memory, and at last closes new connections.
const (
	sidecarShrinkAt  = 0.85
	sidecarRefuseAt  = 0.90
	sidecarResetFrom = 0.92
	sidecarResetTo   = 1.0
	sidecarCloseAt   = 0.98
)

// besideHeap is what the container needs beside Envoy's heap: the agent, Envoy's stacks and its program.
const besideHeap = 32 << 20

// trackedStream is the logarithm of the memory from which Envoy knows a stream by what it holds.
const trackedStream = 15

// overloadManager sets no limit without one of the container: the application could have accepted a connection that the sidecar
// refuses. The container's number of file descriptors limits connections. (Without an explicit setting, Envoy warns at
// every start.)
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/operations/overload_manager/overload_manager
func (sidecar) overloadManager(s Settings) object {
	monitors := []object{maxConnections(math.MaxInt32)}
	if s.MemoryLimit == 0 {
		return object{"resource_monitors": monitors}
	}
	return object{
		"refresh_interval":  seconds(100 * time.Millisecond),
		"resource_monitors": append(monitors, maxHeap(max(s.MemoryLimit/2, s.MemoryLimit-min(besideHeap, s.MemoryLimit)))),
		"actions": []object{
			overloadAction("shrink_heap", aboveHeap(sidecarShrinkAt)),
			overloadAction("stop_accepting_requests", aboveHeap(sidecarRefuseAt)),
			overloadAction("reset_high_memory_stream", between(heapMonitor, sidecarResetFrom, sidecarResetTo)),
			overloadAction("reject_incoming_connections", aboveHeap(sidecarCloseAt)),
		},
		"buffer_factory_config": object{"minimum_account_to_track_power_of_two": trackedStream},
	}
}

// statistics are those of few listeners, and of many clusters that are seldom called.
func (sidecar) statistics() (prefixes, patterns []string) { return keptPrefixes, keptPatterns }
