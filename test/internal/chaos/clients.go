package chaos

import (
	"context"
	"fmt"
	"time"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

const (
	// work is how long a server takes for most calls, so that some are always in flight.
	work = 20 * time.Millisecond
	// patience of a call: what is looked for is a failure, not a delay.
	patience = 10 * time.Second
	// kept is how many failures of a client are known in full.
	kept = 20_000
	// ask bounds one question to a pod, which may be answered by nobody while the API server or a sidecar is away.
	ask = 5 * time.Second
)

// client makes one kind of call at a steady rate.
type client struct {
	caller
	api.Load
	// gateway says that the calls need the Gateway, so that the client rests while the cluster has none.
	gateway bool

	path string // of the load that runs; empty while the client rests
	// now is what is known of that load, past are those that have ended.
	now  api.Result
	past []api.Result
}

// clients are all of a run. rate is in calls a second, of each.
func clients(ns string, rate float64) []*client {
	load := func(c api.Call) api.Load {
		c.Timeout = patience
		return api.Load{Call: c, Rate: rate, Keep: kept, Reconnect: true}
	}
	fresh := func(c api.Call) api.Load {
		l := load(c)
		l.Fresh = true
		return l
	}
	edge := fmt.Sprintf("%s.%s:80", gatewayPods, ns)
	mesh := func(name string, l api.Load, servers ...string) *client {
		return &client{caller: caller{name: name, pod: callerPod, servers: servers}, Load: l}
	}
	through := func(name string, c api.Call) *client {
		return &client{caller: caller{name: name, pod: outsidePod, servers: []string{server, gatewayPods}}, Load: load(c), gateway: true}
	}
	each := mesh("HTTP/1.1 by a headless name", load(api.Call{Kind: api.HTTP, Target: "http://server-each:8080/"}), server)
	each.direct = true
	all := []*client{
		mesh("gRPC", load(api.Call{Kind: api.GRPC, Target: "server:50051", Delay: work}), server),
		mesh("gRPC, a stream of answers", load(api.Call{Kind: api.GRPCStream, Target: "server:50051"}), server),
		mesh("gRPC, a stream each way", load(api.Call{Kind: api.GRPCChat, Target: "server:50051", Pause: work}), server),
		mesh("HTTP/1.1", load(api.Call{Kind: api.HTTP, Target: "http://server:8080/", Delay: work}), server),
		mesh("HTTP/2", load(api.Call{Kind: api.HTTP2, Target: "http://server:8080/", Delay: work}), server),
		mesh("HTTP/1.1, a connection each", fresh(api.Call{Kind: api.HTTP, Target: "http://server:8080/"}), server),
		mesh("TCP, one connection", load(api.Call{Kind: api.Echo, Target: "server:4445"}), server),
		mesh("TCP, a connection each", fresh(api.Call{Kind: api.Echo, Target: "server:4445"}), server),
		mesh("HTTP/1.1 by an HTTPRoute", load(api.Call{Kind: api.HTTP, Target: "http://routed:8080/", Delay: work}), server, green),
		mesh("gRPC by a GRPCRoute", load(api.Call{Kind: api.GRPC, Target: "routed:50051", Delay: work}), server, green),
		mesh("HTTP/1.1 to strict pods", load(api.Call{Kind: api.HTTP, Target: "http://strict:8080/", Delay: work}), strict),
		mesh("gRPC to strict pods", load(api.Call{Kind: api.GRPC, Target: "strict:50051", Delay: work}), strict),
		each,
		through("HTTP/1.1 by the Gateway", api.Call{Kind: api.HTTP, Target: "http://" + edge + "/", Host: "web.example.com", Delay: work}),
		through("gRPC by the Gateway", api.Call{Kind: api.GRPC, Target: edge, Host: "grpc.example.com", Delay: work}),
	}
	for _, c := range all {
		c.held = c.Kind == api.Echo && !c.Fresh
	}
	return all
}

// reachable waits until one call of each client goes through.
func (s *suite) reachable(ctx context.Context) error {
	for _, c := range s.clients {
		err := cluster.Poll(ctx, time.Minute, func(ctx context.Context) (string, error) {
			ctx, cancel := context.WithTimeout(ctx, patience+ask)
			defer cancel()
			var a api.Answer
			if err := s.JSON(ctx, "POST", s.pod(c.pod), api.ControlPort, "/call", c.Call, &a); err != nil {
				return err.Error(), nil //nolint:nilerr // it may answer soon
			}
			if !a.OK {
				return a.Error, nil
			}
			return "", nil
		})
		if err != nil {
			return fmt.Errorf("%s, %s: %w", c.name, c.Target, err)
		}
	}
	return nil
}

// start makes those clients call that do not yet.
func (s *suite) start(ctx context.Context) error {
	for _, c := range s.clients {
		if c.path != "" {
			continue
		}
		var id int
		if err := s.JSON(ctx, "POST", s.pod(c.pod), api.ControlPort, "/load", c.Load, &id); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		c.path, c.now = fmt.Sprintf("/load/%d", id), api.Result{}
	}
	return nil
}

// rest ends the calls of some clients and waits for those in flight.
func (s *suite) rest(ctx context.Context, which func(*client) bool) error {
	for _, c := range s.clients {
		if c.path == "" || !which(c) {
			continue
		}
		path := c.path
		err := cluster.Poll(ctx, time.Minute, func(ctx context.Context) (string, error) {
			ctx, cancel := context.WithTimeout(ctx, ask)
			defer cancel()
			// Asking twice is asking once.
			if err := s.JSON(ctx, "POST", s.pod(c.pod), api.ControlPort, path+"/stop", nil, &c.now); err != nil {
				return err.Error(), nil //nolint:nilerr // it may answer soon
			}
			if !c.now.Done {
				return fmt.Sprintf("%d calls in flight", c.now.InFlight), nil
			}
			return "", nil
		})
		if err != nil {
			return fmt.Errorf("end of the calls of %s: %w", c.name, err)
		}
		c.past, c.now, c.path = append(c.past, c.now), api.Result{}, ""
	}
	return nil
}

// look asks a client that calls for its figures so far.
func (s *suite) look(ctx context.Context, c *client) error {
	ctx, cancel := context.WithTimeout(ctx, ask)
	defer cancel()
	var now api.Result
	if err := s.JSON(ctx, "GET", s.pod(c.pod), api.ControlPort, c.path, nil, &now); err != nil {
		return err
	}
	c.now = now
	return nil
}

// calm waits until every client has made calls for another second. Those that may fail until they have recovered must not have failed
// in a call of the last second.
func (s *suite) calm(ctx context.Context, timeout time.Duration, excused func(caller) bool) error {
	before, calm := map[*client]int{}, map[*client]bool{}
	return cluster.Poll(ctx, timeout, func(ctx context.Context) (missing string, err error) {
		for _, c := range s.clients {
			if c.path == "" || calm[c] {
				continue
			}
			if why := s.restless(ctx, c, before, excused(c.caller)); why != "" {
				missing = c.name + ": " + why
				continue
			}
			calm[c] = true
		}
		return missing, ctx.Err()
	})
}

// restless says why a client is not calm. before has the calls that each had made when it was asked first.
func (s *suite) restless(ctx context.Context, c *client, before map[*client]int, excused bool) string {
	asked := time.Now()
	if err := s.look(ctx, c); err != nil {
		return err.Error()
	}
	first, known := before[c]
	if !known {
		first, before[c] = c.now.Calls, c.now.Calls
	}
	if n := c.now.Calls - first; n < int(max(s.Rate, 1)) {
		return fmt.Sprintf("%d more calls", n)
	}
	if excused && c.now.LastFailed.After(asked.Add(-time.Second)) {
		return "calls fail, such as: " + c.latestError()
	}
	return ""
}

func (c *client) latestError() string {
	if n := len(c.now.Failures); n > 0 {
		return c.now.Failures[n-1].Error
	}
	return "unknown"
}

// tally sums up all loads of a client.
func (c *client) tally() tally {
	t := tally{caller: c.caller, kind: string(c.Kind), target: c.Target}
	most := 0
	for _, r := range append(c.past, c.now) {
		t.calls += r.Calls
		t.lost += r.Failed - len(r.Failures)
		t.max = max(t.max, r.Max)
		if r.Calls > most { // percentiles cannot be added
			most, t.p50, t.p99 = r.Calls, r.P50, r.P99
		}
		for _, f := range r.Failures {
			t.failures = append(t.failures, failure{Failure: f, kind: t.kind, target: t.target})
		}
	}
	t.onTheWay = onTheWay(t.p99, c.Delay+c.Pause)
	for i := range t.failures {
		t.failures[i].caller = t.caller
	}
	return t
}
