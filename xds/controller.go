package xds

import (
	"context"
	"net/netip"
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
	made       *server.Made // addresses of pods that sidecars ask for; nil in a mesh without identities
	reconnects *reconnects
	heldSince  time.Time // when the first change that is held was heard of; zero at the start
	holdUntil  time.Time // when it is built, whatever still comes
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
	}
	if o.Config.MTLS.On() {
		c.made = o.Store.Made(func(id envoy.ID) bool {
			_, ok := sds.Address(id.Name)
			return ok && id.Type == envoy.PodAddressType
		})
	}
	return c
}

// Ready is closed when the store holds the whole cluster for the first time. Before that no proxy
// may be served: it would take what is missing for gone.
func (c *Controller) Ready() <-chan struct{} { return c.ready }

// Run publishes the whole cluster, then every change, until ctx ends.
func (c *Controller) Run(ctx context.Context) error {
	if !c.opt.Source.Sync(ctx) {
		return ctx.Err()
	}
	c.take()
	c.build()
	close(c.ready)
	var asked <-chan struct{}
	if c.made != nil {
		asked = c.made.Changed()
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
		case <-c.reconnects.timer.C:
			c.translator.Reconnect(c.reconnects.take()...)
			if c.translator.Waiting() {
				c.build()
			}
		}
	}
}

// take passes the pending changes to the translator. It returns when the first of them was heard of.
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

// urgent publishes what cannot wait; it reports whether there is something new to hold.
func (c *Controller) urgent(since time.Time) (held bool) {
	now, held := c.translator.Urgent()
	c.publish(now)
	if !now.Change.Empty() {
		c.metrics.published("endpoints", since)
	}
	c.metrics.held.Set(float64(c.translator.HeldCount()))
	return held
}

// build publishes everything.
func (c *Controller) build() {
	c.publish(c.translator.Build())
	c.metrics.published("services", c.heldSince)
	c.metrics.held.Set(float64(c.translator.HeldCount()))
	c.metrics.services.Set(float64(c.translator.ServiceCount()))
}

// answer publishes who is at addresses that sidecars have come to want, and drops those that none wants any more.
func (c *Controller) answer() {
	wanted, unwanted := c.made.Take()
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

// publish hands a result on. What statuses say is published before they say it.
func (c *Controller) publish(r *translate.Result) {
	for key, err := range r.Errors {
		c.opt.Log.Error(err, "keeping the published configuration until the next change", "service", key.String())
	}
	switch changed, err := c.opt.Store.Apply(r.Change); {
	case err != nil:
		c.opt.Log.Error(err, "keeping the published configuration")
	case len(changed) > 0:
		c.opt.Log.V(1).Info("published", "resources", len(changed))
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
