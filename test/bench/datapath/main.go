// Command datapath measures what the two sidecars of a call cost: processor time, throughput and
// latency, against bare Envoys and against none, in two network namespaces joined by a veth pair.
//
//	apt-get install nghttp2-client   # h2load
//	make tools                       # Envoy
//	go run ./test/bench/datapath     # as root, some five minutes
//	go run ./test/bench/datapath -mtls -against <commit>   # what a change costs
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"time"

	"github.com/mizzen-mesh/mizzen/test/bench/internal/load"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

type options struct {
	rounds   int
	duration time.Duration
	only     *regexp.Regexp
	mtls     bool
	json     string
	against  string
}

func main() {
	opt, err := parse()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if opt.against != "" {
		if err := compare(opt); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	world.Main(func() error { return run(opt) })
}

func parse() (options, error) {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how often everything is measured, interleaved")
	flag.DurationVar(&o.duration, "duration", 2*time.Second, "of one measurement: half at full load, half at a fixed rate; and half of it again one by one")
	only := flag.String("only", "", "regular expression of \"<scenario>/<configuration>\"")
	flag.BoolVar(&o.mtls, "mtls", false, "compare mTLS with plain text through the same sidecars, too")
	flag.StringVar(&o.json, "json", "", "file for every single sample")
	flag.StringVar(&o.against, "against", "", "commit with which this build is compared, measured in turns; or another build of this program")
	flag.Func("external", "file that names two more proxies and how they are started: docs/performance.md has an example", readExternal)
	flag.Parse()
	if o.rounds < 1 {
		return o, fmt.Errorf("-rounds: %d: want 1 or more", o.rounds)
	}
	if o.duration < 200*time.Millisecond {
		return o, fmt.Errorf("-duration: %s: want 200ms or more", o.duration)
	}
	if o.against != "" && external != nil {
		return o, fmt.Errorf("-external: %s: -against measures sidecars alone", external.Name)
	}
	if o.against != "" && o.json != "" {
		return o, fmt.Errorf("-json: %s: -against has samples of two builds and writes none", o.json)
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		err = fmt.Errorf("-only: %w", err)
	}
	return o, err
}

func run(opt options) error {
	if err := load.HaveH2load(); err != nil {
		return err
	}
	layouts, err := start(opt.mtls)
	if err != nil {
		return err
	}
	everything := envoysOf(layouts)
	defer everything.stop()
	before, err := load.ReadUsage(everything.proxies)
	if err != nil {
		return err
	}
	all, err := measure(opt, layouts)
	if err != nil {
		return err
	}
	after, err := load.ReadUsage(everything.proxies)
	if err != nil {
		return err
	}
	if err := load.Machine(os.Stdout, after.Others(before)); err != nil {
		return err
	}
	if err := report(os.Stdout, all); err != nil || opt.json == "" {
		return err
	}
	text, err := json.MarshalIndent(all, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(opt.json, append(text, '\n'), 0o644)
}

// measure takes every scenario on every layout, round by round, so that what else the machine does
// falls on all alike. Each round begins with another layout.
func measure(opt options, layouts []*layout) (load.Samples, error) {
	all := load.Samples{}
	for round := range opt.rounds {
		for _, s := range scenarios {
			for i := range layouts {
				l := layouts[(round+i)%len(layouts)]
				if l.target(s) == "" || !opt.only.MatchString(s.Name+"/"+l.name) {
					continue
				}
				sample, err := load.Measure(s.Scenario, load.Target{Address: l.target(s)}, l.proxies, opt.duration)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", s.Name, l.name, err)
				}
				all.Add(s.Name, l.name, sample)
			}
		}
		fmt.Fprintf(os.Stderr, "round %d of %d\n", round+1, opt.rounds)
	}
	return all, nil
}
