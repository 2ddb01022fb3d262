package xds

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// A changed Service is held back for quietTime after the last change, so that many changes at once
// are one, but never longer than maxHold. Endpoints are not held back.
const (
	quietTime = 50 * time.Millisecond
	maxHold   = 500 * time.Millisecond
)

// Options of a Controller.
type Options struct {
	Source *kube.Source
	Store  *server.Store
	Config *config.Mesh
	Log    logr.Logger
	// Report hears the problems of one object each time it is built, none when they are gone.
	Report func(mesh.Object, []mesh.Problem)
	// Statuses takes what the statuses of routes and policies shall say.
	Statuses Statuses
	// Registerer for metrics; nil for none.
	Registerer prometheus.Registerer
	// Quiet is how long a change is held back after the last one, MaxHold how long at most; quietTime and maxHold if 0.
	Quiet, MaxHold time.Duration
}

// Statuses takes what the statuses of routes and policies shall say; status.Writer writes them.
type Statuses interface {
	// Set takes, by Service, what is said of all objects that name it, in place of what was said before.
	Set(map[mesh.Key][]status.Status)
	// SetWhole takes what is said of objects as a whole; Forget says no more of one.
	SetWhole([]status.Status)
	Forget(kube.ID)
	// Written tells that somebody has changed the status of an object.
	Written(kube.ID)
}

// Controller keeps the store in step with the cluster. It is one goroutine (Run) that owns the mesh.
type Controller struct {
	opt         Options
	settings    mesh.Options
	translation translation
	services    map[mesh.Key]*builtService
	// pods is nil in a mesh without identities.
	pods      *mesh.Pods
	calls     podCalls
	inbounds  *inbounds                     // of these pods
	renewals  *renewals                     // of connections to them
	said      map[mesh.Key][]mesh.Condition // of policies
	depend    *dependencies
	protocols *envoy.ProtocolTable  // of all services
	held      map[mesh.Key]struct{} // changed Services that wait for quiet
	listener  bool                  // ServiceCIDRs or ranges of pods have changed
	heldSince time.Time             // when the first of them was heard of
	// holdUntil is when held must be published whatever still comes.
	holdUntil time.Time
	ready     chan struct{}
	metrics   *metrics
}

// NewController gives a controller; Run starts it.
func NewController(o Options) *Controller {
	o.Quiet, o.MaxHold = cmp.Or(o.Quiet, quietTime), cmp.Or(o.MaxHold, maxHold)
	pods := podsOf(o.Config)
	return &Controller{
		opt:         o,
		settings:    mesh.Options{OpaquePorts: o.Config.Detection.OpaquePorts, ServiceCIDRs: o.Config.ServiceCIDRs},
		translation: translation{cfg: o.Config, check: envoy.Check},
		services:    map[mesh.Key]*builtService{},
		pods:        pods,
		calls:       newPodCalls(o.Store, pods),
		inbounds:    newInbounds(o.Config),
		renewals:    newRenewals(),
		said:        map[mesh.Key][]mesh.Condition{},
		depend:      newDependencies(),
		protocols:   envoy.NewProtocolTable(),
		held:        map[mesh.Key]struct{}{},
		ready:       make(chan struct{}),
		metrics:     newMetrics(o.Registerer),
	}
}

// Ready is closed when the store holds the whole cluster for the first time. Before that no proxy
// may be served: it would take what is missing for gone.
func (c *Controller) Ready() <-chan struct{} { return c.ready }

// Run publishes the whole cluster, then every change, until ctx ends. It fails only if the first
// read of the cluster does.
func (c *Controller) Run(ctx context.Context) error {
	if !c.opt.Source.Sync(ctx) {
		return ctx.Err()
	}
	if err := c.first(ctx); err != nil {
		return err
	}
	close(c.ready)
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.opt.Source.Changed():
			if c.take(ctx, c.opt.Source.Take()) {
				timer.Reset(min(c.opt.Quiet, time.Until(c.holdUntil)))
			}
		case <-c.calls.changed():
			c.takeWanted()
		case <-timer.C:
			c.publishHeld(ctx)
		case <-c.renewals.timer.C:
			c.renew(ctx)
		}
	}
}

// hold holds Services back until they are built; it reports whether there are any.
func (c *Controller) hold(keys ...mesh.Key) bool {
	for _, key := range keys {
		c.held[key] = struct{}{}
	}
	return len(keys) > 0
}

func (c *Controller) waiting() bool { return len(c.held) > 0 || c.listener }

// first publishes everything as one change.
func (c *Controller) first(ctx context.Context) error {
	services, err := c.opt.Source.Services(ctx)
	if err != nil {
		return err
	}
	for _, svc := range services {
		c.hold(mesh.Key{Namespace: svc.Namespace, Name: svc.Name})
	}
	for _, kind := range []kube.Kind{kube.HTTPRoute, kube.GRPCRoute, kube.TLSRoute, kube.TCPRoute, kube.TrafficPolicy} {
		for _, o := range c.opt.Source.Objects(kind, "") {
			c.hold(c.dependents(kube.ID{Kind: kind, Key: mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()}})...)
		}
	}
	c.firstPolicies()
	base := server.Change{Set: envoy.BaseClusters(c.opt.Config)}
	if c.pods == nil {
		base.Set = append(base.Set, envoy.InboundListeners()...)
	} else if err := c.firstPods(ctx, &base); err != nil {
		return err
	}
	c.apply(base)
	c.opt.Statuses.SetWhole(c.sayPolicies(sets.KeySet(c.inbounds.policies)))
	c.publishHeld(ctx)
	return nil
}

// take sorts what has changed: endpoints of known Services go out at once, all else is held. It reports
// whether there is something new to hold.
func (c *Controller) take(ctx context.Context, changes kube.Changes) bool {
	if !c.waiting() {
		c.holdUntil, c.heldSince = time.Now().Add(c.opt.MaxHold), changes.Since
	}
	judged := c.takePolicies(changes)
	for key := range changes.Pods {
		judged.Insert(key.Namespace) // their policies may mean something else now
	}
	var change server.Change
	listener := c.takePods(ctx, &changes, &change) || changes.CIDRs
	c.listener = c.listener || listener
	hold := listener
	for key := range changes.Services {
		hold = c.hold(c.depend.ofService(key)...) || hold
	}
	for id := range changes.Objects {
		hold = c.hold(c.dependents(id)...) || hold
	}
	for id := range changes.Statuses {
		c.opt.Statuses.Written(id)
	}
	for key := range changes.Endpoints {
		built := c.services[key]
		if built == nil || c.goTogether(ctx, built.model) {
			continue // its endpoints come, change and go with it
		}
		now, err := c.endpoints(ctx, built.model)
		if err != nil {
			c.opt.Log.Error(err, "keeping the published endpoints", "service", key.String())
			continue
		}
		if !now.within(built.model.Identities) {
			hold = c.hold(c.depend.ofService(key)...) || hold // its clusters and those of its copies have to know them first
			continue
		}
		change.Set = append(change.Set, now.resources...)
		built.endpointProblems = now.problems
		c.report(key)
	}
	c.metrics.held.Set(float64(len(c.held)))
	if !change.Empty() {
		c.apply(change)
		c.metrics.published("endpoints", changes.Since)
	}
	c.opt.Statuses.SetWhole(c.sayPolicies(judged))
	return hold
}

// goTogether reports whether a Service that is held back takes its endpoints along. Of a deleted one they are deleted
// behind it, but routes that sent there and have just been changed are held back, too: without endpoints their calls
// would fail until then. Of one whose ports are other ones they may have the new ports' names already, by which the
// ports that are published would find none.
func (c *Controller) goTogether(ctx context.Context, published *mesh.Service) bool {
	if _, held := c.held[published.Key]; !held {
		return false
	}
	object, err := c.opt.Source.Service(ctx, published.Key)
	if err != nil || object == nil {
		return err == nil
	}
	now, _ := mesh.BuildService(object, c.settings)
	return now == nil || !slices.Equal(now.Ports, published.Ports)
}

// publishHeld builds the Services that changed, and the outbound listener, which holds the protocols of
// all. What statuses say is published before they say it.
func (c *Controller) publishHeld(ctx context.Context) {
	var change server.Change
	statuses := map[mesh.Key][]status.Status{}
	seen := reading{}
	for key := range c.held {
		now, err := c.build(ctx, key, seen)
		if err != nil {
			c.opt.Log.Error(err, "keeping what is published until the next change", "service", key.String())
			continue // stays held
		}
		c.replace(key, now, &change)
		statuses[key] = now.statuses
		delete(c.held, key)
	}
	if listeners, err := c.outboundListeners(ctx); err != nil {
		c.opt.Log.Error(err, "keeping the published listener")
	} else {
		change.Set = append(change.Set, listeners...)
	}
	routes, gone := c.protocols.Routes.Resources(c.opt.Config)
	change.Set, change.Remove = append(change.Set, routes...), append(change.Remove, gone...)
	c.listener = false
	c.apply(change)
	c.opt.Statuses.Set(statuses)
	c.metrics.published("services", c.heldSince)
	c.metrics.held.Set(float64(len(c.held)))
	c.metrics.services.Set(float64(len(c.services)))
}

// replace adds to the change what one Service needs now, and removes what it no longer needs.
func (c *Controller) replace(key mesh.Key, now *builtService, change *server.Change) {
	if before := c.services[key]; before != nil {
		change.Remove = append(change.Remove, before.published...)
		c.protocols.Remove(before.model)
		delete(c.services, key)
	}
	c.protocols.Routes.Set(key, now.model, now.rules)
	if now.model == nil {
		c.depend.setPods(key, nil, nil)
		delete(c.renewals.published, key)
		c.tell(mesh.Object{Kind: mesh.KindService, Key: key}, now.problems)
	} else {
		for _, r := range now.resources {
			now.published = append(now.published, r.ID())
		}
		change.Set = append(change.Set, now.resources...)
		now.resources = nil // the store has them
		c.services[key] = now
		c.protocols.Add(now.model)
		c.report(key)
	}
}

func (c *Controller) outboundListeners(ctx context.Context) ([]envoy.Resource, error) {
	cidrs, err := c.opt.Source.ServiceCIDRs(ctx)
	if err != nil {
		return nil, err
	}
	services := make([]*mesh.Service, 0, len(c.services))
	for _, built := range c.services {
		services = append(services, built.model)
	}
	ranges := mesh.ServiceCIDRs(cidrs, services, c.settings)
	if c.pods == nil {
		return envoy.OutboundListeners(c.protocols, ranges, c.opt.Config), nil
	}
	return c.calls.withRanges(c.pods.Ranges(), func(pods []netip.Prefix) []envoy.Resource {
		return envoy.SecureOutboundListeners(c.protocols, ranges, pods, c.opt.Config)
	}), nil
}

func (c *Controller) apply(change server.Change) {
	changed, err := c.opt.Store.Apply(change)
	if err != nil {
		c.opt.Log.Error(err, "keeping what is published")
		return
	}
	if len(changed) > 0 {
		c.opt.Log.V(1).Info("published", "resources", len(changed))
	}
}

func (c *Controller) report(key mesh.Key) {
	var problems []mesh.Problem
	if built := c.services[key]; built != nil {
		problems = append(append(problems, built.problems...), built.endpointProblems...)
	}
	c.tell(mesh.Object{Kind: mesh.KindService, Key: key}, problems)
}

func (c *Controller) tell(about mesh.Object, problems []mesh.Problem) {
	if c.opt.Report != nil {
		c.opt.Report(about, problems)
	}
}
