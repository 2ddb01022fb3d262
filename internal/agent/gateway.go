package agent

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"google.golang.org/grpc"

	"github.com/mizzen-mesh/mizzen/internal/answers"
)

// gateway is the kind of an agent in a pod of a Gateway. It has no application, captures nothing, and its callers are strangers.
type gateway struct{}

func (gateway) name() string { return "gateway" }

// listen waits for nothing.
func (gateway) listen(ctx context.Context, s *Settings, log *slog.Logger) (net.Listener, error) {
	if s.MemoryLimit == 0 {
		log.Info("the container has no memory limit, so Envoy refuses nothing when it uses much memory")
	}
	if err := writeLeaving(*s, false); err != nil {
		return nil, err
	}
	return listen(ctx, s.Listen)
}

// identityParts are none: there is no application that is called or calls.
func (gateway) identityParts(*agent) (func(grpc.ServiceRegistrar), []func(context.Context), error) {
	return nil, nil, nil
}

// pages are none beside those of every agent.
func (gateway) pages(*agent, *http.ServeMux) {}

// drain first goes on as before, because load balancers and kube-proxy choose this pod until they know that it is not ready.
// Then it asks clients to leave, and waits until they have, at most DrainTimeout. Envoy accepts connections until the end,
// because some may still be on their way, and answers their requests.
func (gateway) drain(ctx context.Context, a *agent, envoy *envoyProcess) {
	ctx = context.WithoutCancel(ctx)
	if !a.served.Load() {
		return // nobody has been sent here
	}
	a.log.Info("not ready any more, serving as before", "delay", a.settings.DrainDelay)
	select {
	case <-time.After(a.settings.DrainDelay):
	case <-envoy.done:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, a.settings.DrainTimeout)
	defer cancel()
	err := a.admin.drain(ctx)
	if err == nil {
		err = writeLeaving(a.settings, true)
	}
	if err != nil {
		a.log.Warn("drain: clients cannot be asked to leave", "error", err)
	}
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	start := time.Now()
	for {
		now, err := a.admin.activity(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			a.log.Warn("drain: Envoy does not report its connections", "error", err)
			return
		case err == nil && now.connections == 0:
			a.log.Info("drained", "took", time.Since(start))
			return
		}
		select {
		case <-envoy.done:
			return
		case <-ctx.Done():
			a.log.Warn("drain: stopping with connections still open", "connections", now.connections, "active", now.active, "timeout", a.settings.DrainTimeout)
			return
		case <-tick.C:
		}
	}
}

// writeLeaving tells Envoy whether idle clients shall leave. Draining itself tells only those that ask something: with the next
// response. So Envoy's overload manager watches a file, and closes idle connections early when it says so: after a GOAWAY, or
// after the same time without one in HTTP/1.1. https://github.com/envoyproxy/envoy/issues/42305
func writeLeaving(s Settings, leaving bool) error {
	pressure := "0"
	if leaving {
		pressure = "1"
	}
	next := s.leavingFile() + ".next" // Envoy notices a file that is moved
	if err := os.WriteFile(next, []byte(pressure), 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.leavingFile())
}

// runtime keeps Envoy's bounds on streams that clients reset, which it lifts for a sidecar: here they are strangers. The
// requests that one connection has sent at a time are served in turn with those of others.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_conn_man/runtime
func (gateway) runtime() object { return object{"http.max_requests_per_io_cycle": 1} }

// Limits of Envoy's heap, as shares of the largest: between the first two it shortens the time that idle clients have, then it
// returns free memory, answers requests with 503, and stops to accept connections. heapShare of the container's memory is for the
// heap. The rest is for the agent, and for the kernel's buffers.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/best_practices/edge
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/operations/overload_manager/overload_manager
const (
	heapShare        = 0.9
	reduceFrom       = 0.85
	reduceTo         = 0.95
	shrinkAt         = 0.90
	refuseRequestsAt = 0.95
	refuseAt         = 0.98
)

// leastIdle is how long a client may be idle when the heap is nearly full, or when clients are to leave.
const leastIdle = time.Second

// overloadManager bounds what strangers can make Envoy use: the number of connections, and the heap if the container's memory
// is limited. Connections above the bound are closed at once.
func (gateway) overloadManager(s Settings) object {
	const leaving = "envoy.resource_monitors.injected_resource"
	monitors := []object{maxConnections(s.MaxConnections), {
		"name":         leaving,
		"typed_config": typed("envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig", object{"filename": s.leavingFile()}),
	}}
	reduce := []object{between(leaving, 0, 1)}
	var actions []object
	if s.MemoryLimit > 0 {
		monitors = append(monitors, maxHeap(uint64(heapShare*float64(s.MemoryLimit))))
		reduce = append(reduce, between(heapMonitor, reduceFrom, reduceTo))
		actions = []object{
			overloadAction("shrink_heap", aboveHeap(shrinkAt)),
			overloadAction("stop_accepting_requests", aboveHeap(refuseRequestsAt)),
			overloadAction("stop_accepting_connections", aboveHeap(refuseAt)),
		}
	}
	shorten := overloadAction("reduce_timeouts", reduce...)
	shorten["typed_config"] = typed("envoy.config.overload.v3.ScaleTimersOverloadActionConfig", object{
		"timer_scale_factors": []object{{"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": seconds(leastIdle)}},
	})
	return object{
		"refresh_interval":  seconds(250 * time.Millisecond),
		"resource_monitors": monitors,
		"actions":           append(actions, shorten),
	}
}

// statistics are fewer than in a sidecar, so that a gateway has at most some 600 series with 50 clusters that are all in use, and
// none for the others, of which there may be thousands: Envoy makes the statistics of traffic when there is some, but those of
// membership with the cluster. Histograms have 17 series each, so there is one for each connection manager and none for each cluster.
func (gateway) statistics() (prefixes, patterns []string) {
	return []string{answers.StatPrefix + "." + answers.Stat}, []string{
		`cluster\.([^.]+|[0-9.]+_[0-9]+)\.(` +
			`upstream_cx_connect_fail` +
			`|upstream_rq_([0-9]xx|pending_overflow|timeout)` +
			// See keptPatterns.
			`|ClusterTrafficStats\.initialized)`,
		`http\.[^.a][^.]*\.(downstream_(cx_(active|protocol_error|total)|rq_([0-9]xx|active|overload_close|rx_reset|time|timeout|total))|no_route)`,
		`udp\..+\.downstream_sess_(active|no_route|total)`,
		`tcp\..+\.(downstream_cx_([rt]x_bytes_total|no_route|total)|upstream_flush_active)`,
		`connection_limit\.gateway_quic\.limited_connections`,
		`listener\.([^.a][^.]*|[0-9.]+_[0-9]+)\.(downstream_(cx_(active|overflow|total)|global_cx_overflow)|no_filter_chain_match|ssl\.(connection_error|fail_verify_[a-z_]+|handshake))`,
		`overload\..+\.(active|pressure)`,
		`control_plane\.connected_state`,
		`(cluster_manager\.cds|listener_manager\.lds)\.update_(failure|rejected|success|time)`,
		`cluster_manager\.(active|warming)_clusters`,
		`listener_manager\.(listener_create_failure|total_(filter_chains|listeners)_[a-z]+)`,
		`server\.(concurrency|days_until_first_cert_expiring|envoy_bug_failures|live|memory_(allocated|heap_size)|state|total_connections|uptime|version)`,
	}
}
