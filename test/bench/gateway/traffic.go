package main

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/mizzen-mesh/mizzen/test/bench/internal/load"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// The Envoys that are compared. The last one, by hand too, serves requests of a connection in turn, as a gateway does.
const mizzenName, handName, inTurnName = "mizzen", "by hand", "by hand, in turn"

// What is wanted of the ratios of the first two.
const wantCPU, wantP99 = 1.05, 1.1

// trafficScenario is a load that comes in plain text or with TLS.
type trafficScenario struct {
	load.Scenario
	tls bool
}

var trafficScenarios = []trafficScenario{
	{load.Scenario{Name: "HTTP/1.1 1 KB", Kind: load.HTTP1, Size: 1 << 10, Conns: 8, Streams: 1, Rate: 2000}, false},
	{load.Scenario{Name: "HTTP/2 1 KB", Kind: load.HTTP2, Size: 1 << 10, Conns: 2, Streams: 8, Rate: 2000}, false},
	{load.Scenario{Name: "gRPC unary 64 B", Kind: load.GRPC, Size: len(load.GRPCMessage), Conns: 2, Streams: 8, Rate: 2000}, false},
	{load.Scenario{Name: "HTTP/1.1 1 KB, TLS", Kind: load.HTTP1, Size: 1 << 10, Conns: 8, Streams: 1, Rate: 2000}, true},
	{load.Scenario{Name: "HTTP/2 1 KB, TLS", Kind: load.HTTP2, Size: 1 << 10, Conns: 2, Streams: 8, Rate: 2000}, true},
	{load.Scenario{Name: "gRPC unary 64 B, TLS", Kind: load.GRPC, Size: len(load.GRPCMessage), Conns: 2, Streams: 8, Rate: 2000}, true},
	{load.Scenario{Name: "TLS, a connection each", Kind: load.HTTP1Once, Size: 1 << 10, Conns: 4, Streams: 1, Rate: 200}, true},
}

// target is where the load goes at an Envoy.
func (s trafficScenario) target(e edge) load.Target {
	t := load.Target{Address: e.plain, Host: webHost}
	if s.Kind == load.GRPC {
		t.Host = grpcHost
	}
	if s.tls {
		t.Address, t.TLS = e.secured, load.Unverified(t.Host)
	}
	return t
}

// measureTraffic compares the gateway's Envoy with the one that is configured by hand.
func measureTraffic(o options, out io.Writer) error {
	if err := load.HaveH2load(); err != nil {
		return err
	}
	edges, err := startEdges()
	if err != nil {
		return err
	}
	var envoys []*world.Envoy
	for _, e := range edges {
		defer e.Stop()
		envoys = append(envoys, e.Envoy)
	}
	for _, s := range trafficScenarios {
		for _, e := range edges { // the first request of all
			if err := world.Await(s.Name+", "+e.name, func() error { return load.Ask(s.Scenario, s.target(e)) }); err != nil {
				return err
			}
		}
	}
	before, err := load.ReadUsage(envoys)
	if err != nil {
		return err
	}
	all, err := rounds(o, edges)
	if err != nil {
		return err
	}
	after, err := load.ReadUsage(envoys)
	if err != nil {
		return err
	}
	if err := load.Machine(out, after.Others(before)); err != nil {
		return err
	}
	return reportTraffic(out, all)
}

// rounds takes every scenario at all Envoys, so that what else the machine does falls on all alike. Each round begins with another
// one.
func rounds(o options, edges []edge) (load.Samples, error) {
	all := load.Samples{}
	for round := range o.rounds {
		start := time.Now()
		for _, s := range trafficScenarios {
			for i := range edges {
				e := edges[(round+i)%len(edges)]
				sample, err := load.Measure(s.Scenario, s.target(e), []*world.Envoy{e.Envoy}, o.duration)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", s.Name, e.name, err)
				}
				all.Add(s.Name, e.name, sample)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d, %s\n", round+1, o.rounds, time.Since(start).Round(time.Second))
	}
	return all, nil
}

// reportTraffic prints for each scenario median and spread of every figure, and the ratios.
func reportTraffic(out io.Writer, all load.Samples) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	load.Head(w)
	for _, s := range trafficScenarios {
		ours := all[s.Name][mizzenName]
		for _, name := range []string{handName, inTurnName, mizzenName} {
			list := all[s.Name][name]
			load.Row(w, s.Name, name, func(c load.Column) string { return load.Spread(list, c) }, list)
		}
		for _, base := range []string{handName, inTurnName} {
			theirs := all[s.Name][base]
			load.Row(w, s.Name, mizzenName+" : "+base, func(c load.Column) string { return load.Ratio(ours, theirs, c) }, ours, theirs)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\nwanted of %s : %s: CPU at most %.2f, p99 at most %.1f\n", mizzenName, handName, wantCPU, wantP99)
	return err
}
