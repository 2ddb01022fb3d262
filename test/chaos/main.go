// Command chaos does harm to a mesh under load, and reports what should not have come of it: failed calls that no fault excuses, pods
// without a sidecar, growth, and more. The seed decides the order of the faults.
//
//	make cluster-up load
//	go run ./test/chaos -seed 7 -duration 30m
//	go run ./test/chaos -list
//
// The cluster is $KUBECONFIG's, else the embedded one's. Mizzen is installed there with the default values.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/chaos"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

func main() {
	o, list, err := readOptions(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err != nil:
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(2)
	case list:
		fmt.Print(chaos.List())
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err = run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// readOptions reads the flags. list says that the faults are to be listed.
func readOptions(args []string) (o chaos.Options, list bool, err error) {
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.Uint64Var(&o.Seed, "seed", uint64(time.Now().Unix()), "decides the order of the faults, and what each is done to")
	f.DurationVar(&o.Duration, "duration", 30*time.Minute, "how long faults are begun")
	f.Float64Var(&o.Rate, "rate", 20, "calls a second of each client")
	f.BoolVar(&o.Quick, "quick", false, "only the faults that are over within seconds")
	f.BoolVar(&o.Keep, "keep", false, "keep the namespace when something does not hold")
	f.BoolVar(&list, "list", false, "list the faults")
	only := f.String("only", "", "names of faults, with commas between")
	if err := f.Parse(args); err != nil {
		return o, false, err
	}
	if f.NArg() > 0 {
		return o, false, fmt.Errorf("%q: want flags alone", f.Args())
	}
	if *only != "" {
		o.Only = strings.Split(*only, ",")
	}
	return o, list, o.Validate()
}

// run installs Mizzen, does the faults, and prints the report.
func run(ctx context.Context, o chaos.Options) error {
	c, err := cluster.Open()
	if err != nil {
		return err
	}
	began := time.Now()
	o.Log = func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "[%7.1fs] %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	if err := c.InstallMizzen(ctx); err != nil {
		return err
	}
	o.Log("Mizzen is installed")
	report, err := chaos.Run(ctx, c, o)
	if report != nil {
		fmt.Print(report)
		if v := report.Violations(); len(v) > 0 {
			err = errors.Join(err, errors.New(strings.Join(v, "\n")))
		}
	}
	return err
}
