// Demo shows what Mizzen is for, on a real cluster and with figures: the same programs and the same
// YAML, measured without the mesh and with it.
//
//	go run ./test/demo            cluster: $KUBECONFIG, else the embedded one of this checkout
//
// It installs the chart, so the images have to be in the cluster already (make demo does all of it),
// can be run again at any time, and exits 1 if the result is not as promised.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
	"github.com/mizzen-mesh/mizzen/test/internal/story"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	d := demo{}
	fs := flag.NewFlagSet("demo", flag.ContinueOnError)
	fs.StringVar(&d.Namespace, "namespace", "mizzen-demo", "namespace to use; its label and the example in it are reset")
	fs.IntVar(&d.calls, "calls", 3000, "calls to measure for each protocol")
	install := fs.Bool("install", true, "install or upgrade the chart first")
	outside := fs.Bool("gateway", true, "call from this machine through a Gateway, too; the cluster must give it an address that this machine reaches")
	fs.Usage = func() {
		fmt.Fprintln(fs.Output(), "Usage: go run ./test/demo [flags]\n\nMeasures examples/grpc-balance without and with Mizzen.")
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 || d.calls < 1 {
		return fmt.Errorf("want flags only, --calls at least 1; got %q", args)
	}
	c, err := cluster.Open()
	if err != nil {
		return err
	}
	d.Cluster, d.term = c, newTerminal(os.Stdout)
	return d.run(ctx, *install, *outside)
}

// run tells the story from start to end.
func (d *demo) run(ctx context.Context, install, outside bool) error {
	start := time.Now()
	steps := []step{
		{"the API server answers", func(ctx context.Context, _ func(string)) error { return d.WaitAPI(ctx, time.Minute) }},
		{"example applied to an unlabelled namespace, " + d.Namespace, d.reset},
		{fmt.Sprintf("%d HTTP calls without the mesh", d.calls), d.measure(&d.before.http, story.HTTP)},
		{fmt.Sprintf("%d gRPC calls without the mesh", d.calls), d.measure(&d.before.grpc, story.GRPC)},
		{"kubectl label namespace " + d.Namespace + " mizzen.dev/injection=enabled, pods restarted", d.mesh},
		{fmt.Sprintf("%d HTTP calls with the mesh", d.calls), d.measure(&d.after.http, story.HTTP)},
		{fmt.Sprintf("%d gRPC calls with the mesh", d.calls), d.measure(&d.after.grpc, story.GRPC)},
	}
	if outside {
		steps = append(steps,
			step{"kubectl apply -n " + d.Namespace + " -f examples/grpc-balance/gateway.yaml", d.gateway},
			step{fmt.Sprintf("%d gRPC calls from this machine through the Gateway", d.calls), d.measureOutside})
	}
	if install {
		chart := step{"helm upgrade --install mizzen charts/mizzen", func(ctx context.Context, _ func(string)) error { return d.InstallMizzen(ctx) }}
		steps = append([]step{steps[0], chart}, steps[1:]...)
	}
	for _, s := range steps {
		if err := d.term.run(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	d.term.print(report(d.before, d.after, d.containers, d.term.colour))
	problems := verdict(d.before, d.after)
	if outside {
		d.term.print(outsideReport(d.outside, d.term.colour))
		problems = append(problems, outsideVerdict(d.outside)...)
	}
	d.term.print(conclusion(problems, d.term.colour, time.Since(start)))
	if len(problems) > 0 {
		return errors.New("the result is not as promised")
	}
	d.term.print(next(d.Kubeconfig, d.Root, d.Namespace))
	return nil
}
