package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/lookout"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// restoreGrace is how long a replica that remembers nothing waits for one that does to restore the Secret,
// before it says that it is gone.
const restoreGrace = 5 * time.Second

const remedy = "delete the Secret, and a running replica restores the last good one; or put a CA certificate with its intermediates into tls.crt, its key into tls.key and its root into ca.crt"

// Options of a Manager. All fields but Keep are required. SecretName is the name of the ConfigMap with the CA's roots
// too.
type Options struct {
	casecret.Options
	// TrustDomain of all identities.
	TrustDomain string
	// Serving is the certificate of this replica.
	Serving ca.Leaf
	// Keep leaves the Secret and the ConfigMap behind, without an owner, so that a later installation has the same CA.
	Keep bool
	// Agents asks all replicas, this one too, what their agents have.
	Agents func(context.Context) Agents
}

// Manager keeps the CA in order and signs with it. One goroutine reconciles; the exported methods but
// Reconcile are safe for concurrent use.
type Manager struct {
	opts    Options
	secret  *casecret.Store
	metrics *metrics
	view    atomic.Pointer[view]

	// Only Reconcile uses these.
	memory      memory
	bundleSince time.Time // the present bundle was first given out here
	signerSince time.Time // the present signer has been signing here
}

// view is what is signed with and trusted at present. It is not changed, only replaced.
type view struct {
	state   rotation.State
	pool    *x509.CertPool
	bundle  string
	version string
	// replaced is closed when another bundle takes its place.
	replaced chan struct{}
}

// New gives a Manager without a CA yet, and registers its metrics.
func New(o Options) (*Manager, error) {
	m := &Manager{opts: o}
	m.view.Store(&view{pool: x509.NewCertPool(), replaced: make(chan struct{})})
	var err error
	m.secret, err = casecret.New(o.Options, casecret.Kind{
		Name: "identity CA", EventReason: "IdentityCA", MetricPrefix: "mizzen_identity_ca",
		Whose: "the mesh's", Signs: "sidecars' certificates", Doing: "signing",
		Remedy: remedy, RestoreGrace: restoreGrace, Leaf: o.Serving,
		Decode: func(secret *corev1.Secret) (rotation.State, error) {
			trial := o.Serving // a leaf that every CA must be able to sign
			trial.Now = o.Now()
			return decode(secret, trial)
		},
		Encode: encode, Owners: m.secretOwners,
		Created: func(secret *corev1.Secret, how string) {
			o.Recorder.Eventf(secret, nil, corev1.EventTypeNormal, "IdentityCA", "WriteIdentityCA", "the Secret of the mesh's CA was missing and has been %s", how)
		},
	})
	if err != nil {
		return nil, err
	}
	m.metrics, err = newMetrics(o.Registerer)
	return m, err
}

// SetupWithManager has the manager reconcile, with a role that allows the Secret and the ConfigMap by name only. onLead is
// called with a task to run on becoming leader.
func (m *Manager) SetupWithManager(mgr manager.Manager, onLead func(task func(context.Context))) error {
	record := lookout.Object{GroupVersion: corev1.SchemeGroupVersion, Kind: "ConfigMap", Namespace: m.opts.Namespace, Name: m.opts.SecretName}
	return m.secret.Watch(mgr, "identity-ca", m, onLead, record)
}

// Bundle gives the roots that are trusted at present, as api.Bundle has them; empty while there is no CA.
// replaced is closed when there is another one.
func (m *Manager) Bundle() (bundle, version string, replaced <-chan struct{}) {
	v := m.view.Load()
	return v.bundle, v.version, v.replaced
}

// Signer is the key id, in hex, of the CA that signs at present; empty while there is none.
func (m *Manager) Signer() string { return keyID(m.view.Load().state.Signer) }

// Ready gives an error while there is no CA.
func (m *Manager) Ready() error {
	if m.view.Load().state.Signer != nil {
		return nil
	}
	if note := m.Note(); note != "" {
		return errors.New(note)
	}
	return rotation.ErrNoCA
}

// Note says what is wrong although the replica serves; empty when nothing is.
func (m *Manager) Note() string { return m.secret.Note() }

// Reconcile looks at the Secret once and brings everything a step further.
func (m *Manager) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	current, err := m.secret.Read(ctx, m.predecessor)
	switch {
	case errors.Is(err, casecret.ErrWaiting):
		return reconcile.Result{RequeueAfter: restoreGrace / 5}, nil
	case err != nil:
		return reconcile.Result{}, err
	case current:
		if !m.opts.ReadOnly {
			if err := m.own(ctx); err != nil {
				return reconcile.Result{}, err
			}
		}
		m.memory = m.memory.take(m.secret.State(), managed(m.secret.Secret()))
	}
	if m.memory.read.Signer == nil {
		return reconcile.Result{RequeueAfter: time.Minute}, nil
	}
	m.use()
	res, err := m.rotate(ctx, current)
	if current && !m.opts.ReadOnly {
		err = errors.Join(err, m.writeRecord(ctx))
	}
	return res, err
}

// Sign makes a certificate for the key of a signing request, and gives it as PEM with its intermediates.
// Of the leaf Now and Lifetime are filled in.
func (m *Manager) Sign(l ca.Leaf, csr *x509.CertificateRequest) (certificate []byte, err error) {
	signer := m.view.Load().state.Signer
	if signer == nil {
		return nil, rotation.ErrNoCA
	}
	l.Now, l.Lifetime = m.opts.Now(), m.opts.Lifetimes.LeafLifetime
	cert, err := signer.SignCSR(l, csr)
	if err != nil {
		return nil, fmt.Errorf("sign with CA %q: %w", signer.Certificate().Subject.CommonName, err)
	}
	return append(ca.EncodeCertificates(cert), ca.EncodeCertificates(signer.Chain()...)...), nil
}
