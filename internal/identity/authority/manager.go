package authority

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/lookout"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// Options of a Manager. All fields but Keep are required.
type Options struct {
	// Namespace of the control plane, SecretName of its CA there, and of the ConfigMap with the CA's roots.
	Namespace, SecretName string
	// TrustDomain of all identities.
	TrustDomain string
	// Serving is the certificate of this replica.
	Serving ca.Leaf
	Policy  rotation.Lifetimes

	Client client.Client
	// Reader reads from the API server, not from a cache.
	Reader client.Reader
	// Owner is what a Secret and a ConfigMap that are made here go with, when the release is uninstalled.
	Owner func(context.Context) (metav1.OwnerReference, error)
	// Keep leaves them behind, without an owner, so that a later installation has the same CA.
	Keep bool
	// IsLeader tells whether this replica may rotate the CA.
	IsLeader func() bool
	// Agents asks all replicas, this one too, what their agents have.
	Agents     func(context.Context) Agents
	Recorder   events.EventRecorder
	Registerer prometheus.Registerer
	Log        logr.Logger
	// Now is the clock.
	Now func() time.Time
}

// Manager keeps the CA in order and signs with it. One goroutine reconciles; the exported methods but
// Reconcile are safe for concurrent use.
type Manager struct {
	opts    Options
	serving *rotation.Serving
	metrics *metrics
	view    atomic.Pointer[view]
	// flaw is what is wrong with the Secret, for Note; empty if nothing is.
	flaw atomic.Pointer[string]

	// Only Reconcile uses these.
	memory       memory
	last         *corev1.Secret // the last good one
	missingSince time.Time      // the Secret was first seen missing, with nothing in memory and a record
	bundleSince  time.Time      // the present bundle was first given out here
	signerSince  time.Time      // the present signer has been signing here
	reported     string         // the resource version of the Secret last complained about
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
	if err := o.Policy.Validate(); err != nil {
		return nil, err
	}
	m := &Manager{opts: o, serving: rotation.NewServing(o.Serving, o.Now)}
	m.view.Store(&view{pool: x509.NewCertPool(), replaced: make(chan struct{})})
	var err error
	m.metrics, err = newMetrics(o.Registerer)
	return m, err
}

// SetupWithManager has the manager reconcile, with a role that allows the Secret and the ConfigMap by name only. onLead is
// called with a task to run on becoming leader.
func (m *Manager) SetupWithManager(mgr manager.Manager, onLead func(task func(context.Context))) error {
	return lookout.Add(mgr, lookout.Options{
		Name: "identity-ca", Reconciler: m, OnLead: onLead,
		Objects: []lookout.Object{
			{GroupVersion: corev1.SchemeGroupVersion, Kind: "Secret", Namespace: m.opts.Namespace, Name: m.opts.SecretName},
			{GroupVersion: corev1.SchemeGroupVersion, Kind: "ConfigMap", Namespace: m.opts.Namespace, Name: m.opts.SecretName},
		},
	})
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
	return errors.New("no certificate authority has been read yet")
}

// Note says what is wrong although the replica serves; empty when nothing is.
func (m *Manager) Note() string {
	if flaw := m.flaw.Load(); flaw != nil {
		return *flaw
	}
	return ""
}

// Reconcile looks at the Secret once and brings everything a step further.
func (m *Manager) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	secret, state, err := m.readSecret(ctx)
	bad := &secretError{}
	switch {
	case errors.Is(err, errWaiting):
		return reconcile.Result{RequeueAfter: restoreGrace / 5}, nil
	case errors.As(err, &bad):
		m.complain(bad)
	case err != nil:
		return reconcile.Result{}, err
	default:
		if secret, err = m.own(ctx, secret); err != nil {
			return reconcile.Result{}, err
		}
		m.last = secret
		m.memory = m.memory.take(state, managed(secret))
		m.metrics.usable.Set(1)
		m.flaw.Store(nil)
		if err := state.Signer.CheckTime(m.opts.Now()); err != nil {
			m.complain(&secretError{secret: secret, err: err, remedy: remedyLeader})
		}
	}
	if m.memory.read.Signer == nil {
		return reconcile.Result{RequeueAfter: time.Minute}, nil
	}
	m.use()
	res, err := m.rotate(ctx, secret)
	if secret != nil {
		err = errors.Join(err, m.writeRecord(ctx))
	}
	return res, err
}

// complain names a bad Secret in log, event and metric, once for each version of it.
func (m *Manager) complain(bad *secretError) {
	why := ca.Reason(bad.err)
	if errors.Is(bad.err, errMissing) {
		why = "Missing"
	}
	m.metrics.usable.Set(0)
	m.metrics.errors.WithLabelValues(why).Inc()
	flaw := bad.Error()
	if m.memory.read.Signer != nil {
		flaw += "; signing with the CA in memory"
	}
	m.flaw.Store(&flaw)
	if m.reported == bad.secret.ResourceVersion {
		return
	}
	m.reported = bad.secret.ResourceVersion
	m.opts.Log.Error(bad.err, "identity CA Secret cannot be used", "secret", m.secretKey(), "reason", why,
		"remedy", bad.remedy, "signingFromMemory", m.memory.read.Signer != nil)
	m.opts.Recorder.Eventf(bad.secret, nil, corev1.EventTypeWarning, "IdentityCA"+why, "ReadIdentityCA", "%s", bad.Error())
}

// Sign makes a certificate for the key of a signing request, and gives it as PEM with its intermediates.
// Of the leaf Now and Lifetime are filled in.
func (m *Manager) Sign(l ca.Leaf, csr *x509.CertificateRequest) (certificate []byte, err error) {
	signer := m.view.Load().state.Signer
	if signer == nil {
		return nil, errors.New("no certificate authority has been read yet")
	}
	l.Now, l.Lifetime = m.opts.Now(), m.opts.Policy.LeafLifetime
	cert, err := signer.SignCSR(l, csr)
	if err != nil {
		return nil, fmt.Errorf("sign with CA %q: %w", signer.Certificate().Subject.CommonName, err)
	}
	return append(ca.EncodeCertificates(cert), ca.EncodeCertificates(signer.Chain()...)...), nil
}
