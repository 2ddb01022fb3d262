package xds

import (
	"context"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/translate"
)

// Controller moves changes from the source through the translator to the store, the statuses and the report. It is one
// goroutine (Run).
type Controller struct {
	opt        Options
	translator *translate.Translator
	onDemand   *server.OnDemand // for addresses of pods; nil in a mesh without identities
	reconnects *reconnects
	heldSince  time.Time   // when the first change that is held arrived; zero at the start
	holdUntil  time.Time   // when it is built at the latest
	overdue    *time.Timer // runs while Services wait for their EndpointSlices (translate.Translator.Lagging)
	lagging    bool
	ready      chan struct{}
	metrics    *metrics
}

// NewController returns a controller; Run starts it.
func NewController(o Options) *Controller {
	if o.HoldOff == (HoldOff{}) {
		o.HoldOff = DefaultHoldOff
	}
	c := &Controller{
		opt: o, translator: translate.New(o.Config), reconnects: newReconnects(o.HoldOff.Reconnect), ready: make(chan struct{}), metrics: newMetrics(o.Registerer),
		overdue: time.NewTimer(time.Hour),
	}
	c.overdue.Stop()
	if o.Config.MTLS.On() {
		c.onDemand = o.Store.OnDemand(func(id envoy.ID) bool {
			_, ok := sds.Address(id.Name)
			return ok && id.Type == envoy.PodAddressType
		})
	}
	return c
}

// Ready is closed when the store holds the whole cluster for the first time. No proxy may be served before: it would
// take missing resources for deleted ones.
func (c *Controller) Ready() <-chan struct{} { return c.ready }

// Run publishes the whole cluster, then every change, until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	if !c.opt.Source.Sync(ctx) {
		return ctx.Err()
	}
	c.take()
	c.built(c.translator.BuildInParts(servicesAtOnce, c.apply))
	debug.FreeOSMemory() // of the first build, which nothing later comes near to
	close(c.ready)
	var asked <-chan struct{}
	if c.onDemand != nil {
		asked = c.onDemand.Changed()
	}
	hold := time.NewTimer(time.Hour)
	hold.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.opt.Source.Changed():
			waiting := c.translator.Waiting()
			since := c.take()
			if !waiting {
				c.heldSince, c.holdUntil = since, time.Now().Add(c.opt.HoldOff.Max)
			}
			if c.urgent(since) {
				hold.Reset(min(c.opt.HoldOff.Quiet, time.Until(c.holdUntil)))
			}
		case <-asked:
			c.answer()
		case <-hold.C:
			c.build()
		case <-c.overdue.C:
			c.lagging = false
			c.translator.Overdue()
			if c.translator.Waiting() {
				c.build()
			}
		case <-c.reconnects.timer.C:
			c.translator.Reconnect(c.reconnects.take()...)
			if c.translator.Waiting() {
				c.build()
			}
		}
	}
}

// take passes the pending changes to the translator. It returns when the first of them arrived.
func (c *Controller) take() (since time.Time) {
	changes := c.opt.Source.Take()
	for id, object := range changes.Objects {
		if object == nil {
			c.translator.Delete(id)
		} else {
			c.translator.Set(object)
		}
	}
	for id := range changes.Statuses {
		c.opt.Statuses.Written(id)
	}
	return changes.Since
}

// urgent publishes what cannot wait, and reports whether there is something new to hold.
func (c *Controller) urgent(since time.Time) (held bool) {
	now, held := c.translator.Urgent()
	c.publish(now)
	if !now.Change.Empty() {
		c.metrics.published("endpoints", since)
	}
	c.metrics.held.Set(float64(c.translator.HeldCount()))
	return held
}

// servicesAtOnce bounds how many Services' resources are in memory before they are marshalled, at the start.
const servicesAtOnce = 200

// build publishes everything.
func (c *Controller) build() { c.built(c.translator.Build()) }

func (c *Controller) built(r *translate.Result) {
	c.publish(r)
	lagging := c.translator.Lagging()
	if lagging && !c.lagging { // those that follow wait for less
		c.overdue.Reset(c.opt.HoldOff.EndpointSlices)
	}
	c.lagging = lagging
	c.metrics.published("services", c.heldSince)
	c.metrics.held.Set(float64(c.translator.HeldCount()))
	c.metrics.services.Set(float64(c.translator.ServiceCount()))
}

// answer publishes the identities at addresses that sidecars have begun to ask for, and drops those that no sidecar asks
// for any more.
func (c *Controller) answer() {
	wanted, unwanted := c.onDemand.Take()
	for addr := range addresses(wanted) {
		c.translator.Ask(addr)
	}
	for addr := range addresses(unwanted) {
		c.translator.Unask(addr)
	}
	c.urgent(time.Time{}) // addresses hold nothing
}

func addresses(ids []envoy.ID) func(func(netip.AddrPort) bool) {
	return func(yield func(netip.AddrPort) bool) {
		for _, id := range ids {
			if addr, ok := sds.Address(id.Name); ok && !yield(addr) {
				return
			}
		}
	}
}

// publish hands a result on. Resources are published before the statuses that describe them.
func (c *Controller) publish(r *translate.Result) {
	for key, err := range r.Errors {
		c.opt.Log.Error(err, "keeping the published configuration until the next change", "service", key.String())
	}
	for key, err := range r.GatewayErrors {
		c.opt.Log.Error(err, "keeping the published configuration until the next change", "gateway", key.String())
	}
	c.apply(r.Change)
	if c.opt.GatewayPorts != nil {
		c.opt.GatewayPorts(r.GatewayPorts)
	}
	c.opt.Statuses.Set(r.Statuses)
	for _, id := range r.DeletedPolicies {
		c.opt.Statuses.Forget(id)
	}
	c.opt.Statuses.SetWhole(r.PolicyStatuses)
	if c.opt.Report != nil {
		for about, problems := range r.Problems {
			c.opt.Report(about, problems)
		}
	}
	c.reconnects.later(r.Reconnect)
}

func (c *Controller) apply(change envoy.Change) {
	switch changed, err := c.opt.Store.Apply(change); {
	case err != nil:
		c.opt.Log.Error(err, "keeping the published configuration")
	case len(changed) > 0:
		c.opt.Log.V(1).Info("published", "resources", len(changed))
	}
}
