// Package xdstest runs the product's control plane in the process of a test or benchmark: Kubernetes objects in (kubetest), delta
// ADS out. Between them are the real informers, Controller, store and server with the product's options, and with identities
// the mesh's real CA.
//
// It may import what cmd/mizzen-controller does, internal/kubetest and internal/sdstest.
package xdstest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/kubetest"
	"github.com/mizzen-mesh/mizzen/xds"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// patience bounds each wait for the control plane.
const patience = time.Minute

// Options of a ControlPlane. All of them are optional.
type Options struct {
	// Config is the mesh configuration, config.Default() if nil.
	Config *config.Mesh
	// Cluster is watched; a new one if nil. Optional kinds are served and have CRDs.
	Cluster *kubetest.Cluster
	// Authority is the mesh's CA, of which replicas of one mesh share one; a new one if nil. A mesh without identities has none.
	Authority *authority.Manager
	// Objects are there before the control plane starts.
	Objects []client.Object
	// HoldOff is that of xds.Options; its times are random and small if it is zero.
	HoldOff xds.HoldOff
	// Report hears of the problems of objects, as that of xds.Options.
	Report func(mesh.ID, []mesh.Problem)
	Log    logr.Logger
}

// ControlPlane is one replica.
type ControlPlane struct {
	Config    *config.Mesh
	Cluster   *kubetest.Cluster
	Authority *authority.Manager // nil in a mesh without identities
	Store     *server.Store

	log      logr.Logger
	statuses *statuses
	stop     func() error
}

// Start returns a control plane that has published what is in the cluster, and follows it until Stop.
func Start(o Options) (*ControlPlane, error) {
	quietly()
	c := &ControlPlane{
		Config: cmp.Or(o.Config, config.Default()), Cluster: o.Cluster, Authority: o.Authority, Store: server.NewStore(),
		log: o.Log, statuses: newStatuses(),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running running
	c.stop = func() error { cancel(); return running.wait() }
	controller, err := c.start(ctx, o, &running)
	if err == nil {
		select {
		case <-controller.Ready():
			return c, nil
		case <-time.After(patience):
			err = errors.New("the control plane has not read the cluster")
		}
	}
	return nil, errors.Join(err, c.stop())
}

func (c *ControlPlane) start(ctx context.Context, o Options, running *running) (*xds.Controller, error) {
	var err error
	if c.Cluster == nil {
		if c.Cluster, err = kubetest.New(); err != nil {
			return nil, err
		}
	}
	if err := c.Cluster.Apply(append(kubetest.CRDs(), o.Objects...)...); err != nil {
		return nil, err
	}
	if c.Authority == nil && c.Config.MTLS.On() {
		if c.Authority, err = newAuthority(ctx, c.Config); err != nil {
			return nil, fmt.Errorf("the mesh's CA: %w", err)
		}
	}
	cache, err := c.Cluster.Cache()
	if err != nil {
		return nil, err
	}
	source, err := kube.NewSource(ctx, cache, c.Cluster.Mapper(), kube.WatchFor(c.Config), c.log)
	if err != nil {
		return nil, err
	}
	hold := cmp.Or(o.HoldOff, randomHoldOff())
	c.log.Info("changes are held back", "quiet", hold.Quiet.String(), "at most", hold.Max.String())
	controller := xds.NewController(xds.Options{
		Source: source, Store: c.Store, Config: c.Config, Log: c.log, Report: o.Report, Statuses: c.statuses, HoldOff: hold,
	})
	running.start(func() error { return cache.Start(ctx) })
	cache.WaitForCacheSync(ctx) // as the manager does it
	running.start(func() error { return source.Run(ctx) })
	running.start(func() error { return ignore(ctx, controller.Run(ctx)) })
	return controller, nil
}

// randomHoldOff is small, but for the time before callers connect anew, which sidecars need.
func randomHoldOff() xds.HoldOff {
	quiet := time.Duration(1+rand.IntN(20)) * time.Millisecond
	return xds.HoldOff{Quiet: quiet, Max: quiet + time.Duration(rand.IntN(100))*time.Millisecond, Reconnect: xds.DefaultHoldOff.Reconnect}
}

// ignore leaves out what the end of ctx brings.
func ignore(ctx context.Context, err error) error {
	if errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// Stop ends the control plane. Servers are stopped before.
func (c *ControlPlane) Stop() error { return c.stop() }

// Apply makes or changes objects. The control plane hears of them in this order, and of each once it has heard of those of
// other kinds before; Published waits for what it makes of them.
func (c *ControlPlane) Apply(objects ...client.Object) error {
	return c.inOrder(objects, c.Cluster.Apply)
}

// Delete deletes objects, in the same way.
func (c *ControlPlane) Delete(objects ...client.Object) error {
	return c.inOrder(objects, c.Cluster.Delete)
}

func (c *ControlPlane) inOrder(objects []client.Object, do func(...client.Object) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for start := 0; start < len(objects); {
		end := start + 1
		for end < len(objects) && kindOf(objects[end]) == kindOf(objects[start]) {
			end++
		}
		if err := do(objects[start:end]...); err != nil {
			return err
		}
		if start = end; start < len(objects) {
			if err := c.Cluster.Heard(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// kindOf is good enough to compare: of metadata alone the kind is in the object.
func kindOf(o client.Object) string {
	return fmt.Sprintf("%T %s", o, o.GetObjectKind().GroupVersionKind())
}

// running are goroutines that end with an error or without.
type running struct {
	group sync.WaitGroup
	mu    sync.Mutex
	errs  []error
}

func (r *running) start(f func() error) {
	r.group.Go(func() {
		err := f()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.errs = append(r.errs, err)
	})
}

func (r *running) wait() error {
	r.group.Wait()
	return errors.Join(r.errs...)
}

// quietly keeps controller-runtime from saying that it has no logger.
var quietly = sync.OnceFunc(func() { ctrllog.SetLogger(logr.Discard()) })
