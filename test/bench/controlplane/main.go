// Controlplane measures the control plane in the real API server of the cluster, with many simulated
// sidecars: what each of them costs, how soon they hear of a change, and how that grows.
//
//	make cluster-up load
//	go run ./test/bench/controlplane -json controlplane.json
//
// docs/performance.md holds the figures; -docs writes them there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// churnServices, churnProxies … are the scenario of SCENARIOS.md: 100 changes a second.
const (
	churnServices, churnProxies = 1000, 500
	churnRate                   = 100
	churnLength                 = 10 * time.Second
)

type options struct {
	services, proxies numbers
	used, endpoints   int
	quick             bool
	only              string
	json, from        string
	docs, label       string
}

// numbers is a flag of the form 100,1000.
type numbers []int

func (n *numbers) String() string { return strings.Trim(fmt.Sprint([]int(*n)), "[]") }

func (n *numbers) Set(s string) error {
	*n = nil
	for _, part := range strings.Split(s, ",") {
		v, err := strconv.Atoi(part)
		if err != nil || v < 1 {
			return fmt.Errorf("%q: want whole numbers above 0 with commas between", s)
		}
		*n = append(*n, v)
	}
	slices.Sort(*n)
	return nil
}

func main() {
	o := options{services: numbers{100, 1000, 10000}, proxies: numbers{100, 500, 2000}}
	flag.Var(&o.services, "services", "numbers of Services, with commas between")
	flag.Var(&o.proxies, "proxies", "numbers of proxies")
	flag.IntVar(&o.used, "used", 10, "Services that each proxy's application calls")
	flag.IntVar(&o.endpoints, "endpoints", 3, "endpoints of each Service")
	flag.StringVar(&o.only, "only", "", "grid or churn; empty is both")
	flag.BoolVar(&o.quick, "quick", false, "1,000 Services and 500 proxies only")
	flag.StringVar(&o.json, "json", "", "`file` to write the figures to")
	flag.StringVar(&o.from, "from", "", "`file` of an earlier run to read the figures from, instead of measuring")
	flag.StringVar(&o.docs, "docs", "", "Markdown `file` to write tables and plots into, between its markers")
	flag.StringVar(&o.label, "label", "on-demand", "names the markers in -docs")
	flag.Parse()
	if o.quick {
		o.services, o.proxies = numbers{1000}, numbers{500}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "controlplane:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) error {
	r, err := figuresOf(ctx, o)
	if r == nil {
		return err
	}
	show(r)
	if o.from == "" {
		err = errors.Join(err, r.write(o.json))
	}
	if o.docs != "" && err == nil {
		err = writeDocs(o.docs, o.label, r)
	}
	return err
}

func figuresOf(ctx context.Context, o options) (*report, error) {
	if o.from != "" {
		return readReport(o.from)
	}
	return measure(ctx, o)
}

func show(r *report) {
	for _, t := range r.tables() {
		fmt.Printf("\n%s", t)
	}
	if r.Churn != nil {
		fmt.Printf("\n%s\n", r.Churn)
	}
	fmt.Printf("\n%s", r.laws())
}

// measure runs the benchmark. What was measured before an error is given too.
func measure(ctx context.Context, o options) (r *report, err error) {
	c, err := cluster.Open()
	if err != nil {
		return nil, err
	}
	began := time.Now()
	log := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "[%6.1fs] %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	w := &world{Cluster: c, endpoints: o.endpoints}
	ctl, err := install(ctx, c)
	if err != nil {
		return nil, err
	}
	log("controller installed, reached at %s", ctl.ip)
	defer func() {
		log("removing the Services")
		err = errors.Join(err, w.end(context.WithoutCancel(ctx)))
		log("done")
	}()
	sources, back, err := lend(ctl.ip, max(churnProxies, slices.Max(o.proxies)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, back()) }()
	if err := w.begin(ctx); err != nil {
		return nil, err
	}
	r = newReport(commit(ctx), o.used, o.endpoints)
	b := &bench{world: w, controller: ctl, sources: sources, used: o.used, log: log}
	return r, b.all(ctx, o, r)
}

func (b *bench) all(ctx context.Context, o options, r *report) (failed error) {
	for _, services := range o.services {
		if err := b.grow(ctx, services); err != nil {
			return err
		}
		b.log("%d Services made", services)
		if o.only != "churn" {
			failed = errors.Join(failed, b.row(ctx, o, r))
		}
		if ctx.Err() != nil || o.only == "grid" || services != churnServices {
			continue
		}
		var err error
		if r.Churn, err = b.churn(ctx, churnProxies, churnRate, churnLength); err != nil {
			return errors.Join(failed, fmt.Errorf("churn: %w", err))
		}
		b.log("%s", r.Churn)
	}
	return failed
}

// row measures the Services there are against each number of proxies.
func (b *bench) row(ctx context.Context, o options, r *report) (failed error) {
	for _, proxies := range o.proxies {
		c, err := b.cell(ctx, proxies)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // the others are worth having
			c.Skipped, failed = err.Error(), errors.Join(failed, err)
		}
		r.Cells = append(r.Cells, c)
		if err := r.write(o.json); err != nil { // what is measured is kept, whatever comes
			return err
		}
		if c.Skipped != "" {
			b.log("%d proxies: not measured: %s", proxies, c.Skipped)
			continue
		}
		b.log("%d proxies: in sync after %s, %s CPU s, %s MB", proxies, ms(c.Fresh.Sync.Max), num(c.Fresh.CPU), num(c.Fresh.PeakMB))
	}
	return failed
}

// commit names the checkout, with a plus if it has changes.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty=+").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}
