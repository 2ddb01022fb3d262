// Package leader elects one replica of the control plane for the work that only one may do: the
// writes (CA rotation, route status, Gateways). It imports Kubernetes clients and nothing of Mizzen.
//
// controller-runtime's own election is not used because its manager ends the whole process when the
// lease cannot be renewed. Here an outage of the API server must cost the lease and nothing else: a
// replica goes on serving sidecars with what it has and stands for election again afterwards.
package leader

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	coordinationv1client "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The timings that Kubernetes' own components use.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// Options of an Elector. All fields are required.
type Options struct {
	Client coordinationv1client.LeasesGetter
	// Namespace and Name of the Lease.
	Namespace, Name string
	// Identity of this replica: the pod's name.
	Identity string
	// Owner of the Lease, so that it goes when the release is uninstalled.
	Owner func(context.Context) (metav1.OwnerReference, error)
	Log   logr.Logger
}

// Elector stands for election until it is stopped.
type Elector struct {
	opts    Options
	leading atomic.Bool
	mu      sync.Mutex
	tasks   []func(context.Context)
	// term is held for one term of leadership: the tasks of two terms never overlap.
	term sync.Mutex
}

// New gives an elector that has not run yet.
func New(o Options) *Elector { return &Elector{opts: o} }

// Alone gives an elector that leads as long as Run runs, without a Lease: for one replica only.
func Alone() *Elector { return &Elector{} }

// Never gives an elector that never leads, because nobody runs it: for a replica that leaves the writes to others.
func Never() *Elector { return &Elector{} }

// IsLeader tells whether this replica leads now.
func (e *Elector) IsLeader() bool { return e.leading.Load() }

// OnLead registers a task, to be called before Run. Each time this replica becomes the leader, every
// task is started in a goroutine of its own, with a context that ends when leadership does.
func (e *Elector) OnLead(task func(context.Context)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tasks = append(e.tasks, task)
}

// Run stands for election, again and again, until ctx ends. It then gives the Lease back, so that
// another replica leads at once, and waits for the tasks.
func (e *Elector) Run(ctx context.Context) error {
	if e.opts.Client == nil {
		e.lead(ctx)
		return nil
	}
	for ctx.Err() == nil {
		le, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock:            e.lock(),
			LeaseDuration:   leaseDuration,
			RenewDeadline:   renewDeadline,
			RetryPeriod:     retryPeriod,
			ReleaseOnCancel: true,
			Name:            e.opts.Name,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: e.lead,
				OnStoppedLeading: func() { e.leading.Store(false) },
			},
		})
		if err != nil {
			return fmt.Errorf("leader election: %w", err)
		}
		le.Run(ctx)
	}
	e.term.Lock()
	defer e.term.Unlock()
	return nil
}

// lead runs the tasks until ctx ends.
func (e *Elector) lead(ctx context.Context) {
	e.term.Lock()
	defer e.term.Unlock()
	e.mu.Lock()
	tasks := e.tasks
	e.mu.Unlock()
	e.leading.Store(true)
	defer e.leading.Store(false)
	e.opts.Log.Info("this replica leads", "lease", e.opts.Name)
	var wg sync.WaitGroup
	for _, task := range tasks {
		wg.Go(func() { task(ctx) })
	}
	<-ctx.Done()
	wg.Wait()
	e.opts.Log.Info("this replica no longer leads", "lease", e.opts.Name)
}

func (e *Elector) lock() resourcelock.Interface {
	return &ownedLock{
		LeaseLock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: e.opts.Namespace, Name: e.opts.Name},
			Client:     e.opts.Client,
			LockConfig: resourcelock.ResourceLockConfig{Identity: e.opts.Identity},
		},
		owner: e.opts.Owner,
	}
}

// ownedLock creates the Lease with an owner.
type ownedLock struct {
	*resourcelock.LeaseLock
	owner func(context.Context) (metav1.OwnerReference, error)
}

func (l *ownedLock) Create(ctx context.Context, record resourcelock.LeaderElectionRecord) error {
	owner, err := l.owner(ctx)
	if err != nil {
		return err
	}
	meta := l.LeaseMeta
	meta.OwnerReferences = []metav1.OwnerReference{owner}
	lease := &coordinationv1.Lease{ObjectMeta: meta, Spec: resourcelock.LeaderElectionRecordToLeaseSpec(&record)}
	if _, err := l.Client.Leases(meta.Namespace).Create(ctx, lease, metav1.CreateOptions{}); err != nil {
		return err
	}
	// The embedded lock remembers the Lease that it read last; without it the first renewal fails.
	_, _, err = l.Get(ctx)
	return err
}
