package ctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// lookOptions are the options of commands that ask sidecars for their callers over a time.
type lookOptions struct {
	clusterFlags
	connect    connector
	agents     agentConnector
	now        func() time.Time
	meshConfig string
	system     string
	all        bool
	since      time.Duration
	lookedFor  time.Duration
	output     string
}

// addFlags adds the flags; namespace and lookedFor are the help of --namespace and --for.
func (o *lookOptions) addFlags(flags *pflag.FlagSet, namespace, lookedFor string) {
	o.add(flags, namespace)
	flags.BoolVarP(&o.all, "all-namespaces", "A", false, "all namespaces, which is the default")
	flags.DurationVar(&o.since, "since", 0, "leave out callers without a call within this time, such as 1h (default: show all)")
	flags.DurationVar(&o.lookedFor, "for", defaultLook, lookedFor)
	addMeshFlags(flags, &o.meshConfig, &o.system)
	flags.StringVarP(&o.output, "output", "o", "table", wantOutput)
}

// open checks the flags, and reads the inventory of the cluster.
func (o *lookOptions) open(ctx context.Context) (c client.Client, a agents, inv *inventory, err error) {
	switch err = checkOutput(o.output); {
	case err != nil:
	case o.all && o.namespace != "":
		err = errors.New("--all-namespaces: want no --namespace")
	case o.since < 0:
		err = fmt.Errorf("--since: %s: want a positive duration, such as 1h", o.since)
	case o.lookedFor < 0:
		err = fmt.Errorf("--for: %s: want a duration, such as 24h, or 0", o.lookedFor)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	if c, err = o.connect(&o.clusterFlags); err != nil {
		return nil, nil, nil, err
	}
	if a, err = o.agents(&o.clusterFlags); err != nil {
		return nil, nil, nil, err
	}
	inv, err = clusterReader{Client: c, system: o.system, meshConfig: o.meshConfig}.inventory(ctx, o.namespace)
	return c, a, inv, err
}

func (o *lookOptions) look() look {
	l := look{now: o.now(), atLeast: o.lookedFor}
	if o.since > 0 {
		l.after = l.now.Add(-o.since)
	}
	return l
}
