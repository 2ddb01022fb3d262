package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/test/bench/internal/adsload"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// How often each small thing is repeated, and how long it may take.
const (
	endpointChanges = 20
	newServices     = 5
	firstUses       = 50
	syncTimeout     = 5 * time.Minute
	changeTimeout   = time.Minute
	// quiet is how long nothing has come when all has. The control plane repeats the answer to a demand after up to two
	// seconds.
	quiet = 2500 * time.Millisecond
)

// bench measures; it owns the world and the controller.
type bench struct {
	*world
	*controller
	sources []netip.Addr // of proxies
	used    int
	log     func(format string, args ...any)
}

// cell measures one number of Services against one of proxies, with a fresh controller.
func (b *bench) cell(ctx context.Context, proxies int) (cell, error) {
	out := cell{Services: len(b.services), Proxies: proxies}
	if err := b.restart(ctx); err != nil {
		return out, err
	}
	if err := b.known(ctx); err != nil {
		return out, err
	}
	base, err := b.usage(ctx)
	if err != nil {
		return out, err
	}
	out.BaseMB = base.memory / 1e6
	f := b.fleet(proxies)
	defer f.Disconnect()
	steps := []func() error{
		func() (err error) { out.Fresh, err = b.connect(ctx, f, proxies); return },
		func() (err error) { out.Change, err = b.changes(ctx, f); return },
		func() (err error) { out.NewService, err = b.newServices(ctx, f, proxies); return },
		func() (err error) { f.Disconnect(); out.Reconnect, err = b.connect(ctx, f, proxies); return },
		// Last: what one pod used is sent ahead to the others of its workload when they come back.
		func() (err error) { out.FirstUse, err = b.firstUse(ctx, f, proxies); return },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return out, fmt.Errorf("%d Services, %d proxies: %w", out.Services, proxies, err)
		}
	}
	return out, nil
}

// known waits until the controller has published every Service. A fresh one publishes all of the cluster before it counts
// them.
func (b *bench) known(ctx context.Context) error {
	return cluster.Poll(ctx, syncTimeout, func(ctx context.Context) (string, error) {
		now, err := b.usage(ctx)
		if err != nil || now.services >= len(b.services) {
			return "", err
		}
		return fmt.Sprintf("the controller has published %d Services, want %d at least", now.services, len(b.services)), nil
	})
}

// fleet makes proxies that are spread over the namespaces; most of what each uses is of its own.
func (b *bench) fleet(proxies int) *adsload.Fleet {
	nodes := make([]node.Node, proxies)
	for i := range nodes {
		nodes[i] = node.Node{
			Namespace: namespace(i), Pod: fmt.Sprintf("pod-%04d", i), UID: fmt.Sprintf("00000000-0000-0000-0000-%012d", i),
			ServiceAccount: "default", NodeName: fmt.Sprintf("node-%d", i%100), Version: "bench",
			Workload: fmt.Sprintf("Deployment/app-%d", workload(i)),
		}
	}
	return b.load(nodes, func(i int) adsload.Uses {
		var u adsload.Uses
		for _, s := range b.uses(i) {
			u.HTTP = append(u.HTTP, s.destination())
			if s.tcp {
				u.TCP = append(u.TCP, s.opaque())
			}
		}
		return u
	})
}

func (b *bench) load(nodes []node.Node, uses func(i int) adsload.Uses) *adsload.Fleet {
	return adsload.New(adsload.Options{Address: b.ip + ":" + xdsPort, Nodes: nodes, Sources: b.sources, Uses: uses})
}

// podsPerWorkload have the same application.
const podsPerWorkload = 5

// workload numbers the workload of proxy i in its namespace.
func workload(i int) int { return i / namespaces / podsPerWorkload }

// uses are the Services that proxy i calls: seven of ten in its own namespace. The same every time.
func (b *bench) uses(i int) []service {
	random := rand.New(rand.NewPCG(uint64(i%namespaces), uint64(workload(i))))
	own, others := []service{}, []service{}
	for _, j := range random.Perm(len(b.services)) {
		if s := b.services[j]; s.namespace == namespace(i) {
			own = append(own, s)
		} else {
			others = append(others, s)
		}
	}
	own = own[:min(len(own), b.used*7/10)]
	return append(own, others[:min(len(others), b.used-len(own))]...)
}

// connect connects all proxies at once and waits until they are in sync and nothing more comes.
func (b *bench) connect(ctx context.Context, f *adsload.Fleet, proxies int) (fresh, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, syncTimeout, fmt.Errorf("not in sync after %s", syncTimeout))
	defer cancel()
	var times []time.Duration
	before := f.Counts()
	cost, err := b.sampled(ctx, func() (err error) {
		f.Connect(ctx)
		if times, err = f.AwaitSync(ctx); err != nil {
			return err
		}
		return f.Quiet(ctx, quiet)
	})
	if err != nil {
		return fresh{}, err
	}
	got := f.Counts().Sub(before)
	return fresh{
		Sync:      quantilesOf(times),
		Bytes:     float64(got.In) / float64(proxies),
		Resources: float64(adsload.Total(got.Resources)) / float64(proxies),
		Messages:  byKind(got.Messages),
		CPU:       cost.cpu, PeakMB: cost.peak / 1e6, AfterMB: cost.after / 1e6, LoadCPU: cost.load, OthersCPU: cost.others,
	}, nil
}

// changes changes one endpoint at a time, of Services that are used.
func (b *bench) changes(ctx context.Context, f *adsload.Fleet) (change, error) {
	out := change{Count: endpointChanges}
	var all []time.Duration
	before := f.Counts()
	cost, err := b.during(ctx, func() error {
		for i := range endpointChanges {
			s := b.uses(i)[0]
			holders := f.Holders(adsload.Endpoints, s.backends())
			out.Holders += holders
			times, err := b.oneChange(ctx, f, s, holders)
			if err != nil {
				return fmt.Errorf("change %d, of %s/%s: %w", i, s.namespace, s.name, err)
			}
			all = append(all, times...)
		}
		return f.Quiet(ctx, quiet)
	})
	out.Latency, out.CPU = quantilesOf(all), cost.cpu
	out.Messages = byKind(f.Counts().Sub(before).Messages)
	return out, err
}

func (b *bench) oneChange(ctx context.Context, f *adsload.Fleet, s service, holders int) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	watch := f.WatchEndpoints(s.backends(), holders)
	if err := b.move(ctx, s); err != nil {
		return nil, err
	}
	return watch.Await(ctx, time.Now())
}

// newServices creates one Service at a time, has one proxy more call it at once, and removes them. The others do not call
// it.
func (b *bench) newServices(ctx context.Context, f *adsload.Fleet, proxies int) (newService, error) {
	out := newService{Count: newServices}
	var all []time.Duration
	var made []service
	caller := b.caller()
	defer caller.Disconnect()
	caller.Connect(ctx)
	if _, err := caller.AwaitSync(ctx); err != nil {
		return out, fmt.Errorf("the proxy that calls new Services: %w", err)
	}
	before := f.Counts()
	cost, err := b.during(ctx, func() error {
		for i := range newServices {
			s, times, err := b.oneService(ctx, caller, len(b.services)+(i*5+1)*namespaces)
			if s.ip.IsValid() {
				made = append(made, s)
			}
			if err != nil {
				return err
			}
			all = append(all, times...)
		}
		return f.Quiet(ctx, quiet)
	})
	out.Latency, out.CPU = quantilesOf(all), cost.cpu/newServices
	out.Bytes = float64(f.Counts().Sub(before).Responses) / float64(proxies) / newServices
	for _, s := range made {
		err = errors.Join(err, b.remove(ctx, s))
	}
	return out, errors.Join(err, f.Quiet(ctx, quiet))
}

// caller makes one proxy that is sent nothing before it asks.
func (b *bench) caller() *adsload.Fleet {
	return b.load([]node.Node{{
		Namespace: namespace(0), Pod: "caller", UID: "00000000-0000-0000-0001-000000000000", ServiceAccount: "default",
		NodeName: "node-0", Version: "bench", Workload: "Deployment/caller", ConfigScope: config.ScopeDemand,
	}}, nil)
}

// oneService gives the time from the API server's answer, when the application begins to call, until a call reaches the
// Service.
func (b *bench) oneService(ctx context.Context, caller *adsload.Fleet, i int) (service, []time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	s, err := b.create(ctx, i)
	if err != nil {
		return s, nil, err
	}
	began := time.Now()
	watch := caller.WatchCall(s.destination(), 1)
	if _, err := caller.Use(0, s.destination()); err != nil {
		return s, nil, err
	}
	times, err := watch.Await(ctx, began)
	return s, times, err
}

// firstUse has some proxies, one after the other, use a Service that they never used. It gives nil
// where they hold everything already.
func (b *bench) firstUse(ctx context.Context, f *adsload.Fleet, proxies int) (*quantiles, error) {
	var all []time.Duration
	for i := range min(firstUses, proxies) {
		used := b.uses(i)
		j := slices.IndexFunc(b.services, func(s service) bool { return !s.tcp && !slices.Contains(used, s) })
		if j < 0 {
			break
		}
		times, err := b.oneUse(ctx, f, i, b.services[j])
		if err != nil {
			return nil, fmt.Errorf("first use of %s/%s by proxy %d: %w", b.services[j].namespace, b.services[j].name, i, err)
		}
		all = append(all, times...)
	}
	if len(all) == 0 {
		return nil, nil
	}
	return new(quantilesOf(all)), nil
}

func (b *bench) oneUse(ctx context.Context, f *adsload.Fleet, i int, s service) ([]time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	watch := f.WatchCall(s.destination(), 1)
	began := time.Now()
	if asked, err := f.Use(i, s.destination()); err != nil || !asked {
		return nil, err
	}
	return watch.Await(ctx, began)
}

// churn changes endpoints at a steady pace, of all Services in turn.
func (b *bench) churn(ctx context.Context, proxies, perSecond int, length time.Duration) (*churn, error) {
	if err := b.restart(ctx); err != nil {
		return nil, err
	}
	if err := b.known(ctx); err != nil {
		return nil, err
	}
	f := b.fleet(proxies)
	defer f.Disconnect()
	if _, err := b.connect(ctx, f, proxies); err != nil {
		return nil, err
	}
	n := int(length.Seconds() * float64(perSecond))
	out := &churn{Services: len(b.services), Proxies: proxies, Changes: n}
	for i := range n {
		out.Holders += f.Holders(adsload.Endpoints, b.services[i*7%len(b.services)].backends())
	}
	before := f.Counts()
	cost, err := b.sampled(ctx, func() error {
		began := time.Now()
		err := b.pace(ctx, n, perSecond)
		out.Seconds = time.Since(began).Seconds()
		return errors.Join(err, f.Quiet(ctx, quiet))
	})
	out.CPU, out.PeakMB = cost.cpu, cost.peak/1e6
	out.Messages = byKind(f.Counts().Sub(before).Messages)
	return out, err
}

// pace begins n changes, each at its time however long those before it take.
func (b *bench) pace(ctx context.Context, n, perSecond int) error {
	began := time.Now()
	return cluster.Each(ctx, n, func(ctx context.Context, i int) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(perSecond)))):
		}
		return b.move(ctx, b.services[i*7%len(b.services)])
	})
}

func byKind(n [6]int64) map[string]int64 {
	out := map[string]int64{}
	for k := adsload.Clusters; k <= adsload.Routes; k++ {
		out[k.String()] = n[k]
	}
	return out
}
