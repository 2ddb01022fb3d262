package webhookcert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/lookout"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// restoreGrace is how long a replica that remembers nothing waits before it makes a new CA in the
// place of one that the cluster still trusts.
const restoreGrace = 3 * time.Second

const remedy = "delete the Secret: a running replica restores it from memory, or a new CA is made"

// Keys of the signer in the Secret.
const (
	keySignerCert = "ca.crt"
	keySignerKey  = "ca.key"
)

// Options of a Manager. All fields are required. Reader does not read from a cache: see mendBundles.
type Options struct {
	casecret.Options
	// ServiceName (of the webhook) and ConfigName (of the MutatingWebhookConfiguration).
	ServiceName, ConfigName string
	// ClusterDomain without a leading dot.
	ClusterDomain string
}

// Manager keeps the webhook's certificates and caBundle in order. One goroutine reconciles; the
// other methods are safe for concurrent use.
type Manager struct {
	opts   Options
	secret *casecret.Store
	mended prometheus.Counter

	// trustedSince is when State.Next was first seen in every caBundle. Only Reconcile uses it.
	trustedSince time.Time

	// bundles are the caBundles by webhook name, as last seen, by which readiness is judged. The pointer is nil before the
	// first look, the map without a MutatingWebhookConfiguration.
	bundles atomic.Pointer[map[string][]byte]
}

// New gives a Manager and registers its metrics.
func New(o Options) (*Manager, error) {
	base := o.ServiceName + "." + o.Namespace + ".svc"
	m := &Manager{opts: o}
	var err error
	m.secret, err = casecret.New(o.Options, casecret.Kind{
		Name: "webhook CA", EventReason: "WebhookCA", MetricPrefix: "mizzen_webhook_ca",
		Whose: "the webhook's", Signs: "the webhook's serving certificates", Doing: "serving",
		Remedy: remedy, RestoreGrace: restoreGrace,
		Leaf: ca.Leaf{
			CommonName: base, DNSNames: []string{base, base + "." + o.ClusterDomain},
			Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, Lifetime: o.Lifetimes.LeafLifetime,
		},
		Decode: decode, Encode: encode,
		Owners: func(ctx context.Context, _ *corev1.Secret) ([]metav1.OwnerReference, error) {
			owner, err := o.Owner(ctx)
			return []metav1.OwnerReference{owner}, err
		},
	})
	if err != nil {
		return nil, err
	}
	m.mended, err = newMetrics(o.Registerer, m.secret)
	return m, err
}

func decode(secret *corev1.Secret) (rotation.State, error) {
	return rotation.Decode(secret.Data, keySignerCert, keySignerKey)
}

func encode(secret *corev1.Secret, s rotation.State) (err error) {
	secret.Data, err = rotation.Encode(s, keySignerCert, keySignerKey)
	return err
}

// SetupWithManager has the manager reconcile, with a role that allows the Secret and the
// MutatingWebhookConfiguration by name only. onLead is called with a task to run on becoming leader.
func (m *Manager) SetupWithManager(mgr manager.Manager, onLead func(task func(context.Context))) error {
	config := lookout.Object{GroupVersion: admissionv1.SchemeGroupVersion, Kind: "MutatingWebhookConfiguration", Name: m.opts.ConfigName}
	return m.secret.Watch(mgr, "webhook-certificate", m, onLead, config)
}

// GetCertificate is for tls.Config.
func (m *Manager) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return m.secret.Certificate()
}

// Ready gives an error unless every caBundle, as last seen, covers the certificate that is served.
// With no MutatingWebhookConfiguration no admission can fail, so that is ready.
func (m *Manager) Ready() error {
	bundles := m.bundles.Load()
	cert, err := m.secret.Certificate()
	switch note := m.secret.Note(); {
	case err != nil && note != "":
		return errors.New(note)
	case err != nil:
		return err
	case bundles == nil:
		return fmt.Errorf("MutatingWebhookConfiguration %s has not been read yet", m.opts.ConfigName)
	}
	for name, bundle := range *bundles {
		if err := verify(cert.Leaf, bundle, m.opts.Now()); err != nil {
			return fmt.Errorf("MutatingWebhookConfiguration %s, webhook %s: caBundle does not cover the serving certificate: %w", m.opts.ConfigName, name, err)
		}
	}
	return nil
}

// Note says what is wrong although the replica serves; empty when nothing is.
func (m *Manager) Note() string {
	if note := m.secret.Note(); note != "" {
		return note
	}
	if bundles := m.bundles.Load(); bundles != nil && *bundles == nil {
		return fmt.Sprintf("MutatingWebhookConfiguration %s does not exist: no pod gets a sidecar", m.opts.ConfigName)
	}
	return ""
}

// Reconcile looks at the cluster once and brings everything a step further.
func (m *Manager) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	// The order matters: see mendBundles.
	config, err := m.readConfig(ctx)
	if err != nil {
		return reconcile.Result{}, err
	}
	next := m.secret.State().Next
	authoritative, err := m.secret.Read(ctx, func(context.Context) (*casecret.Predecessor, error) { return predecessor(config), nil })
	switch {
	case errors.Is(err, casecret.ErrWaiting):
		return reconcile.Result{RequeueAfter: restoreGrace / 4}, nil
	case err != nil:
		return reconcile.Result{}, err
	}
	state := m.secret.State()
	if state.Signer == nil {
		m.look(config)
		return reconcile.Result{RequeueAfter: time.Minute}, nil
	}
	m.secret.Use(state.Signer)
	if !next.Equal(state.Next) {
		m.trustedSince = time.Time{}
	}
	inOrder, mendErr := m.mend(ctx, config, state, authoritative)
	m.look(config)
	switch {
	case apierrors.IsConflict(mendErr):
		return reconcile.Result{RequeueAfter: 50 * time.Millisecond}, nil
	case mendErr != nil:
		return reconcile.Result{}, fmt.Errorf("caBundle of MutatingWebhookConfiguration %s: %w", m.opts.ConfigName, mendErr)
	case !authoritative:
		return reconcile.Result{RequeueAfter: time.Minute}, nil
	}
	return m.rotate(ctx, state, inOrder)
}

// readConfig gives nil when there is none.
func (m *Manager) readConfig(ctx context.Context) (*admissionv1.MutatingWebhookConfiguration, error) {
	config := &admissionv1.MutatingWebhookConfiguration{}
	err := m.opts.Reader.Get(ctx, types.NamespacedName{Name: m.opts.ConfigName}, config)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read MutatingWebhookConfiguration %s: %w", m.opts.ConfigName, err)
	}
	return config, nil
}

// mend brings the caBundles up to date in the cluster and in config, and tells whether they were.
func (m *Manager) mend(ctx context.Context, config *admissionv1.MutatingWebhookConfiguration, s rotation.State, authoritative bool) (bool, error) {
	if config == nil {
		return true, nil
	}
	mended, err := mendBundles(ctx, m.opts.Client, config, s, authoritative)
	if err != nil || len(mended) == 0 {
		return err == nil, err
	}
	m.mended.Add(float64(len(mended)))
	m.opts.Log.Info("caBundle mended", "mutatingWebhookConfiguration", config.Name, "webhooks", mended)
	for i := range config.Webhooks {
		w := &config.Webhooks[i].ClientConfig
		w.CABundle = wantedBundle(w.CABundle, s, authoritative)
	}
	return false, nil
}

// look keeps what readiness is judged by.
func (m *Manager) look(config *admissionv1.MutatingWebhookConfiguration) {
	var bundles map[string][]byte
	if config != nil {
		bundles = map[string][]byte{}
		for _, w := range config.Webhooks {
			bundles[w.Name] = w.ClientConfig.CABundle
		}
	}
	m.bundles.Store(&bundles)
}

// rotate lets the leader take the next step of the rotation when it is due.
func (m *Manager) rotate(ctx context.Context, s rotation.State, inOrder bool) (reconcile.Result, error) {
	now := m.opts.Now()
	switch {
	case s.Next == nil || !inOrder:
		m.trustedSince = time.Time{}
	case m.trustedSince.IsZero():
		m.trustedSince = now
	}
	var held rotation.Held
	if !m.trustedSince.IsZero() {
		held.Trusted = now.Sub(m.trustedSince)
	}
	due, wait, err := m.secret.Step(ctx, m.opts.Lifetimes, held)
	if err == nil && !due && s.Next != nil && !inOrder {
		wait = time.Second // the settle time begins with the first look that finds all in order
	}
	return reconcile.Result{RequeueAfter: wait}, err
}

// predecessor is the CA that a caBundle tells of. A new one may take its place.
func predecessor(config *admissionv1.MutatingWebhookConfiguration) *casecret.Predecessor {
	if config == nil {
		return nil
	}
	for _, w := range config.Webhooks {
		if len(w.ClientConfig.CABundle) > 0 {
			return &casecret.Predecessor{}
		}
	}
	return nil
}
