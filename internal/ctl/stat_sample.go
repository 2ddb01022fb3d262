package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/answers"
	"github.com/mizzen-mesh/mizzen/internal/callmetrics"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// destination is a port of a Service.
type destination struct {
	mesh.Key
	port uint16
}

// counts of the calls to one destination, as counters that only grow.
type counts struct {
	// codes are requests by the status of their answer ("503"), or its class ("5xx") where only that is known: in a gateway. grpc
	// are those by a gRPC status that is an error, and reasons the answers that the sidecar made itself.
	codes, grpc, reasons map[string]float64
	retries              float64
	// latency has the requests that took at most so long, by milliseconds.
	latency map[float64]float64
	// Connections, and bytes over them.
	opened, failedToConnect, sent, received float64
	// open is no counter: the connections that are open now.
	open float64
}

func newCounts() *counts {
	return &counts{codes: map[string]float64{}, grpc: map[string]float64{}, reasons: map[string]float64{}, latency: map[float64]float64{}}
}

// maxCount is the largest number that a float counts up to.
const maxCount = 1 << 53

// sample is what one sidecar has counted up to a time.
type sample struct {
	at time.Time
	// started says since when the sidecar has counted.
	started start
	by      map[destination]*counts
	fail    error
}

// start is another one after each start of the agent and of its Envoy: the time of the former, and how often the latter was started again.
type start struct{ process, envoys float64 }

// read asks all sidecars.
func (t *traffic) read(ctx context.Context, now func() time.Time, stderr io.Writer) map[mesh.Key]sample {
	return askEach(t.pods, stderr, func(p *podInfo) sample {
		body, err := t.agents.page(ctx, p.Key, config.AgentPort, "/metrics")
		at := now()
		if err != nil {
			return sample{at: at, fail: err}
		}
		m, err := readMetrics(body)
		if err != nil {
			return sample{at: at, fail: err}
		}
		switch up, ok := m.gauge("mizzen_agent_envoy_up"); {
		case !ok:
			return sample{at: at, fail: fmt.Errorf("port %d has no metrics of a sidecar", config.AgentPort)}
		case up == 0:
			return sample{at: at, fail: errors.New("its Envoy does not answer")}
		}
		var started start
		started.process, _ = m.gauge("process_start_time_seconds")
		started.envoys, _ = m.counter("mizzen_agent_envoy_restarts_total")
		by, err := m.calls()
		return sample{at, started, by, err}
	})
}

// informational are answers before the one that ends a request. Envoy counts them, too.
var informational = []string{"100", "102", "103", "1xx"}

// calls reads the counts of all destinations, under the names of package callmetrics or, from sidecars of earlier versions and
// gateways, those of Envoy. A value that is not finite is an error: nobody can add to it.
func (m metrics) calls() (map[destination]*counts, error) {
	out := map[destination]*counts{}
	of := func(to destination) *counts {
		if out[to] == nil {
			out[to] = newCounts()
		}
		return out[to]
	}
	each := func(name string, f func(c *counts, labels map[string]string, series *dto.Metric)) {
		for _, series := range m[name].GetMetric() {
			labels := map[string]string{}
			for _, l := range series.Label {
				labels[l.GetName()] = l.GetValue()
			}
			if to, ok := destinationOf(labels); ok {
				f(of(to), labels, series)
			}
		}
	}
	// A sidecar has each metric under one of its two names.
	either := func(name string, f func(c *counts, labels map[string]string, series *dto.Metric)) {
		each(name, f)
		each(callmetrics.EnvoyName(name), f)
	}
	var wrong error
	value := func(series *dto.Metric) float64 {
		v := series.GetCounter().GetValue() + series.GetGauge().GetValue() + series.GetUntyped().GetValue()
		if !(v >= 0 && v <= maxCount) { // not a number is neither
			wrong = fmt.Errorf("a metric has the value %g", v)
		}
		return v
	}
	add := func(name string, field func(*counts) *float64) {
		either(name, func(c *counts, _ map[string]string, series *dto.Metric) { *field(c) += value(series) })
	}
	either(callmetrics.Requests, func(c *counts, labels map[string]string, series *dto.Metric) {
		if code := cmp.Or(labels[callmetrics.StatusCode], labels["envoy_response_code"]); !slices.Contains(informational, code) {
			c.codes[code] += value(series)
		}
	})
	classes := map[*counts]map[string]float64{}
	each("envoy_cluster_upstream_rq_xx", func(c *counts, labels map[string]string, series *dto.Metric) {
		if classes[c] == nil {
			classes[c] = map[string]float64{}
		}
		if class := labels["envoy_response_code_class"] + "xx"; !slices.Contains(informational, class) {
			classes[c][class] += value(series)
		}
	})
	for c, by := range classes {
		if len(c.codes) == 0 { // a gateway, which has few series
			c.codes = by
		}
	}
	either(callmetrics.GRPCErrors, func(c *counts, labels map[string]string, series *dto.Metric) {
		c.grpc[cmp.Or(labels[callmetrics.GRPCStatus], callmetrics.StatusName(labels["grpc_status"]))] += value(series)
	})
	each(answers.Metric, func(c *counts, labels map[string]string, series *dto.Metric) {
		if labels["side"] == "outbound" {
			c.reasons[labels["reason"]] += value(series)
		}
	})
	latencies := func(name string, unit float64) {
		each(name, func(c *counts, _ map[string]string, series *dto.Metric) {
			for _, b := range series.GetHistogram().GetBucket() {
				if math.IsNaN(b.GetUpperBound()) {
					wrong = errors.New("a bucket of a metric has no bound")
					continue
				}
				c.latency[math.Round(b.GetUpperBound()*unit*1000)/1000] += float64(b.GetCumulativeCount())
			}
		})
	}
	latencies(callmetrics.Duration, 1000)
	latencies(callmetrics.EnvoyName(callmetrics.Duration), 1)
	add(callmetrics.Retries, func(c *counts) *float64 { return &c.retries })
	add(callmetrics.ConnectionsOpened, func(c *counts) *float64 { return &c.opened })
	add(callmetrics.ConnectFailures, func(c *counts) *float64 { return &c.failedToConnect })
	add(callmetrics.BytesSent, func(c *counts) *float64 { return &c.sent })
	add(callmetrics.BytesReceived, func(c *counts) *float64 { return &c.received })
	add(callmetrics.Connections, func(c *counts) *float64 { return &c.open })
	return out, wrong
}

// destinationOf reads the labels of Mizzen's metrics, or the name of a cluster.
func destinationOf(labels map[string]string) (destination, bool) {
	namespace, service, port := labels[callmetrics.DestinationNamespace], labels[callmetrics.DestinationService], labels[callmetrics.DestinationPort]
	if cluster, ok := strings.CutPrefix(labels["destination"], "outbound/"); ok {
		if parts := strings.Split(cluster, "/"); len(parts) == 3 {
			namespace, service, port = parts[0], parts[1], parts[2]
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return destination{mesh.Key{Namespace: namespace, Name: service}, uint16(n)}, err == nil && service != ""
}

// less returns what came since before, all if there is no before.
func (c *counts) less(before *counts) *counts {
	if before == nil {
		return c
	}
	return &counts{
		codes: lessEach(c.codes, before.codes), grpc: lessEach(c.grpc, before.grpc), reasons: lessEach(c.reasons, before.reasons), latency: lessEach(c.latency, before.latency),
		retries: max(c.retries-before.retries, 0), opened: max(c.opened-before.opened, 0), failedToConnect: max(c.failedToConnect-before.failedToConnect, 0),
		sent: max(c.sent-before.sent, 0), received: max(c.received-before.received, 0), open: c.open,
	}
}

func lessEach[K comparable](after, before map[K]float64) map[K]float64 {
	out := map[K]float64{}
	for k, v := range after {
		out[k] = max(v-before[k], 0)
	}
	return out
}

// add adds the counts of another pod of the same workload.
func (c *counts) add(other *counts) {
	addEach(c.codes, other.codes)
	addEach(c.grpc, other.grpc)
	addEach(c.reasons, other.reasons)
	addEach(c.latency, other.latency)
	c.retries, c.opened, c.failedToConnect = c.retries+other.retries, c.opened+other.opened, c.failedToConnect+other.failedToConnect
	c.sent, c.received, c.open = c.sent+other.sent, c.received+other.received, c.open+other.open
}

func addEach[K comparable](to, from map[K]float64) {
	for k, v := range from {
		to[k] += v
	}
}

func (c *counts) total() float64 {
	sum := 0.0
	for _, n := range c.codes {
		sum += n
	}
	return sum
}

// failed returns the requests that failed. Where a sidecar answers a gRPC call itself, the same call has the status 503 and
// a gRPC status; so has one of a server's that speaks HTTP. A port has seldom both HTTP and gRPC, so the larger number counts.
func (c *counts) failed() float64 {
	var http, grpc float64
	for code, n := range c.codes {
		if is5xx(code) {
			http += n
		}
	}
	for _, status := range grpcFailures {
		grpc += c.grpc[status]
	}
	return max(http, grpc)
}

// requests returns the number of requests. One is counted when its answer begins, and its gRPC status when that ends: of streams that
// began before, only the end may be in it.
func (c *counts) requests() float64 { return max(c.total(), c.failed()) }

func is5xx(code string) bool { return strings.HasPrefix(code, "5") }

func is4xx(code string) bool { return strings.HasPrefix(code, "4") }

// quantile returns the time in milliseconds within which this part of the requests was answered, between the bounds of a bucket
// as Prometheus's histogram_quantile does it, and false if there was none.
func (c *counts) quantile(q float64) (float64, bool) {
	bounds := slices.Sorted(maps.Keys(c.latency))
	if len(bounds) == 0 || c.latency[bounds[len(bounds)-1]] <= 0 {
		return 0, false
	}
	rank := q * c.latency[bounds[len(bounds)-1]]
	at, _ := slices.BinarySearchFunc(bounds, rank, func(bound, rank float64) int { return cmp.Compare(c.latency[bound], rank) })
	lower, below := 0.0, 0.0
	if at > 0 {
		lower, below = bounds[at-1], c.latency[bounds[at-1]]
	}
	if math.IsInf(bounds[at], 1) {
		return lower, true
	}
	return lower + (bounds[at]-lower)*(rank-below)/(c.latency[bounds[at]]-below), true
}
