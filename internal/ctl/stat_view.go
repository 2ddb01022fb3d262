package ctl

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// statView is the result of stat, and the format of -o json and yaml.
type statView struct {
	// Sidecars is the number of those that answered.
	Sidecars int `json:"sidecars"`
	// Seconds is the time that was looked at; 0 is all since each sidecar's start.
	Seconds    float64       `json:"seconds"`
	Calls      []callsView   `json:"calls"`
	Unanswered []missingView `json:"unanswered,omitempty"`
	// windowed is that a time was looked at, and left the number of calls that are not shown.
	windowed bool
	left     int
}

// callsView are the calls of one workload to one port of a Service.
type callsView struct {
	From callerView      `json:"from"`
	To   destinationView `json:"to"`
	// Requests whose answer has begun, of which Failed have failed; and answers by status (its class, of gateways), gRPC status and
	// reason.
	Requests int64            `json:"requests"`
	Failed   int64            `json:"failed"`
	Retries  int64            `json:"retries,omitempty"`
	Codes    map[string]int64 `json:"codes,omitempty"`
	GRPC     map[string]int64 `json:"grpc,omitempty"`
	Reasons  map[string]int64 `json:"reasons,omitempty"`
	// PerSecond is 0 if all since each sidecar's start is shown. Latencies are in milliseconds, and missing where Envoy has none yet.
	PerSecond float64  `json:"perSecond"`
	P50       *float64 `json:"p50Milliseconds,omitempty"`
	P99       *float64 `json:"p99Milliseconds,omitempty"`
	// Connections of sidecars to endpoints.
	Connections connectionsView `json:"connections"`
}

type callerView struct {
	Namespace string `json:"namespace"`
	Workload  string `json:"workload"`
}

type destinationView struct {
	Namespace string `json:"namespace"`
	Service   string `json:"service"`
	Port      uint16 `json:"port"`
}

type connectionsView struct {
	Open            int64 `json:"open"`
	Opened          int64 `json:"opened"`
	FailedToConnect int64 `json:"failedToConnect,omitempty"`
	Sent            int64 `json:"sentBytes"`
	Received        int64 `json:"receivedBytes"`
}

// flushEvery is how often Envoy adds to its histograms, in seconds: what a shorter time has of them is of another time.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/bootstrap/v3/bootstrap.proto (stats_flush_interval)
const flushEvery = 5

type edge struct {
	from callerView
	to   destination
}

// between adds up what the pods of each workload have counted between two samples, or up to the second if there is no first.
func (t *traffic) between(before, after map[mesh.Key]sample) statView {
	v := statView{Calls: []callsView{}, windowed: before != nil}
	sums, rates := map[edge]*counts{}, map[edge]float64{}
	for _, p := range t.pods {
		now := after[p.Key]
		began, known := before[p.Key]
		if err := cmp.Or(now.fail, began.fail); err != nil {
			v.Unanswered = append(v.Unanswered, missingView{p.Namespace, p.Name, err.Error()})
			continue
		}
		if before != nil && !known {
			continue // it has come since, and its time is not known
		}
		v.Sidecars++
		var seconds float64
		if before != nil {
			seconds = now.at.Sub(began.at).Seconds()
			v.Seconds = max(v.Seconds, seconds)
		}
		if now.started != began.started {
			began.by = nil // it counts from its start again
		}
		for to, c := range now.by {
			if !t.wanted(to) {
				continue
			}
			part := c.less(began.by[to])
			at := edge{callerView{p.Namespace, p.workload}, to}
			if sums[at] == nil {
				sums[at] = newCounts()
			}
			sums[at].add(part)
			if seconds > 0 {
				rates[at] += part.requests() / seconds
			}
		}
	}
	v.Seconds = math.Round(v.Seconds*10) / 10
	for at, c := range sums {
		if c.requests() > 0 || len(positive(c.reasons))+len(positive(c.grpc)) > 0 || c.opened > 0 || c.open > 0 || c.sent+c.received > 0 || c.failedToConnect > 0 {
			if v.windowed && v.Seconds < flushEvery {
				c.latency = nil
			}
			v.Calls = append(v.Calls, c.view(at, rates[at]))
		}
	}
	slices.SortFunc(v.Calls, func(a, b callsView) int {
		return cmp.Or(cmp.Compare(a.To.Namespace, b.To.Namespace), cmp.Compare(a.To.Service, b.To.Service), cmp.Compare(a.To.Port, b.To.Port),
			cmp.Compare(a.From.Namespace, b.From.Namespace), cmp.Compare(a.From.Workload, b.From.Workload))
	})
	return v
}

func (c *counts) view(at edge, perSecond float64) callsView {
	v := callsView{
		From: at.from, To: destinationView{at.to.Namespace, at.to.Name, at.to.port},
		Requests: int64(c.requests()), Failed: int64(c.failed()), Retries: int64(c.retries),
		Codes: positive(c.codes), GRPC: positive(c.grpc), Reasons: positive(c.reasons), PerSecond: perSecond,
		Connections: connectionsView{int64(c.open), int64(c.opened), int64(c.failedToConnect), int64(c.sent), int64(c.received)},
	}
	for q, into := range map[float64]**float64{0.5: &v.P50, 0.99: &v.P99} {
		if ms, ok := c.quantile(q); ok {
			ms = math.Round(ms*100) / 100
			*into = &ms
		}
	}
	return v
}

// positive are the numbers above 0.
func positive(of map[string]float64) map[string]int64 {
	var out map[string]int64
	for name, n := range of {
		if n > 0 {
			if out == nil {
				out = map[string]int64{}
			}
			out[name] = int64(n)
		}
	}
	return out
}

// busiest keeps the calls with the most requests, those first.
func (v *statView) busiest(most int) {
	slices.SortStableFunc(v.Calls, func(a, b callsView) int {
		return cmp.Or(cmp.Compare(b.PerSecond, a.PerSecond), cmp.Compare(b.Connections.Sent+b.Connections.Received, a.Connections.Sent+a.Connections.Received))
	})
	if len(v.Calls) > most {
		v.left = len(v.Calls) - most
		v.Calls = v.Calls[:most]
	}
}

// grpcFailures are the statuses that say that the server's side has failed.
// https://opentelemetry.io/docs/specs/semconv/rpc/grpc/
var grpcFailures = []string{"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}

// milliseconds shows a latency with two digits that matter.
func milliseconds(ms float64) string {
	d := time.Duration(ms * float64(time.Millisecond))
	switch {
	case d < 10*time.Millisecond:
		return strconv.FormatFloat(ms, 'f', 1, 64) + " ms"
	case d < 10*time.Second:
		return strconv.FormatFloat(ms, 'f', 0, 64) + " ms"
	}
	return strconv.FormatFloat(ms/1000, 'f', 0, 64) + " s"
}
