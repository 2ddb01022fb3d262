// Command gateway measures a Gateway: how soon statuses are right and routes answer, whether changes lose requests, what thousands
// of routes cost, and what its Envoy costs against one that is configured by hand.
//
//	go run ./test/bench/gateway -only traffic   # as root, without a cluster, some ten minutes; needs h2load
//	make cluster-up load
//	go run ./test/bench/gateway -only attached,probe,change,scale
//
// docs/performance.md holds the figures.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// traffic is the part that needs no cluster.
const traffic = "traffic"

type options struct {
	only parts
	// Sizes of the parts of those names.
	attached, probe, change int
	rate                    int
	routes, namespaces      int
	churn                   time.Duration
	rounds                  int
	duration                time.Duration
}

// parts are names with commas between.
type parts []string

func (p *parts) String() string { return strings.Join(*p, ",") }

func (p *parts) Set(s string) error {
	*p = nil
	for name := range strings.SplitSeq(s, ",") {
		if !slices.Contains(allParts(), name) {
			return fmt.Errorf("%q: want some of %s, with commas between", name, strings.Join(allParts(), ", "))
		}
		*p = append(*p, name)
	}
	return nil
}

// allParts are those with a cluster, in their order, and then traffic.
func allParts() parts {
	var out parts
	for _, p := range clusterParts {
		out = append(out, p.name)
	}
	return append(out, traffic)
}

func main() {
	o, err := readOptions(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "gateway:", err)
		os.Exit(2)
	}
	if !world.Inside() { // else the program was started again for traffic
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		err := measureOnCluster(ctx, o)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, "gateway:", err)
			os.Exit(1)
		}
	}
	if slices.Contains(o.only, traffic) {
		world.Main(func() error { return measureTraffic(o, os.Stdout) })
	}
}

// readOptions reads the flags.
func readOptions(args []string) (options, error) {
	o := options{only: allParts()}
	f := flag.NewFlagSet("gateway", flag.ContinueOnError)
	f.Var(&o.only, "only", "parts to run, with commas between")
	numbers := []struct {
		value         *int
		name          string
		preset, least int
		usage         string
	}{
		{&o.attached, "attached", 1000, 1, "attached: HTTPRoutes of one Gateway"},
		{&o.probe, "probe", 3000, 200, "probe: HTTPRoutes that are made one by one"},
		{&o.change, "change", 20, 1, "change: changes of each kind"},
		{&o.rate, "rate", 500, 3, "change: requests a second meanwhile, over all protocols"},
		{&o.routes, "routes", 5000, 1, "scale: HTTPRoutes, and as many Services"},
		{&o.namespaces, "namespaces", 50, 1, "scale: namespaces in which they are"},
		{&o.rounds, "rounds", 15, 1, "traffic: how often everything is measured, in turns"},
	}
	for _, n := range numbers {
		f.IntVar(n.value, n.name, n.preset, n.usage)
	}
	f.DurationVar(&o.churn, "churn", time.Minute, "scale: how long there is one change a second")
	f.DurationVar(&o.duration, "duration", time.Second, "traffic: of one measurement: half at full load, half at a fixed rate; and half of it again one by one")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("%q: want flags alone", f.Args())
	}
	for _, n := range numbers {
		if *n.value < n.least {
			return o, fmt.Errorf("-%s: %d: want %d or more", n.name, *n.value, n.least)
		}
	}
	if o.churn < time.Second {
		return o, fmt.Errorf("-churn: %s: want 1s or more", o.churn)
	}
	if o.duration < 200*time.Millisecond {
		return o, fmt.Errorf("-duration: %s: want 200ms or more", o.duration)
	}
	return o, nil
}
