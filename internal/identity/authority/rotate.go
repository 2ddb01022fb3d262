package authority

import (
	"context"
	"crypto/x509"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// use takes over what follows from the memory.
func (m *Manager) use() {
	s := m.memory.state()
	old := m.view.Load()
	v := &view{state: s, pool: x509.NewCertPool(), bundle: api.Roots(s.Trusted()...), replaced: old.replaced}
	for _, c := range s.Trusted() {
		v.pool.AddCert(c)
	}
	v.version = api.Version(v.bundle)
	now := m.opts.Now()
	if m.secret.Use(s.Signer) {
		m.signerSince = now
	}
	if old.version != v.version {
		m.bundleSince = now
		v.replaced = make(chan struct{})
		defer close(old.replaced)
		m.metrics.use(v.version)
		m.opts.Log.Info("trust bundle", "version", v.version, "roots", len(s.Trusted()))
	}
	m.view.Store(v)
}

// patience is by how much a settle time grows while somebody lacks the bundle.
const patience = 10

// rotate takes the next step when it is due: in memory, or, as the leader, in a Secret of ours. current reports whether
// the Secret can be used.
func (m *Manager) rotate(ctx context.Context, current bool) (reconcile.Result, error) {
	now, s := m.opts.Now(), m.view.Load().state
	policy, held, waits := m.held(ctx, now)
	settled, changed := m.memory.settle(policy, now, held)
	if changed {
		m.memory = settled
		m.use()
		return reconcile.Result{RequeueAfter: 50 * time.Millisecond}, nil
	}
	ours := current && managed(m.secret.Secret())
	if ours && m.memory.old == nil {
		if due, wait, err := m.secret.Step(ctx, policy, held); due || err != nil {
			return reconcile.Result{RequeueAfter: wait}, err
		}
	}
	wait := policy.Wait(s, now, held)
	if !ours && s.Next == nil {
		wait = max(wait, time.Minute) // its owner renews it, and that triggers a look
	}
	if waits {
		wait = min(wait, max(time.Second, m.opts.Lifetimes.Settle/patience))
	}
	return reconcile.Result{RequeueAfter: min(wait, time.Hour)}, nil
}

// held asks all replicas what their agents have, where that matters, and tells for how long what has been so,
// and whether somebody is waited for. The policy that it gives is more patient while somebody lacks the
// bundle.
func (m *Manager) held(ctx context.Context, now time.Time) (policy rotation.Lifetimes, held rotation.Held, waits bool) {
	policy, held = m.opts.Lifetimes, rotation.Held{Trusted: now.Sub(m.bundleSince), Unused: now.Sub(m.signerSince)}
	lacking, using := 0, 0
	if v := m.view.Load(); v.state.Next != nil || len(v.state.Previous) > 0 {
		agents := m.opts.Agents(ctx)
		lacking, using = agents.lacking(v.version), agents.using(v.state)
		m.opts.Log.V(1).Info("identity CA rotation", "lackTheBundle", lacking, "useAnotherCA", using)
	}
	m.metrics.lacking.Set(float64(lacking))
	if lacking > 0 {
		policy.Settle *= patience
	}
	if using > 0 {
		held.Unused = 0
	}
	return policy, held, lacking > 0 || using > 0
}
