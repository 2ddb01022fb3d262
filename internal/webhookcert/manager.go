package webhookcert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/lookout"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// Options of a Manager. All fields are required.
type Options struct {
	// Namespace of the control plane, where the Secret and the Service are.
	Namespace string
	// SecretName, ServiceName (of the webhook) and ConfigName (of the MutatingWebhookConfiguration).
	SecretName, ServiceName, ConfigName string
	// ClusterDomain without a leading dot.
	ClusterDomain string
	Policy        rotation.Lifetimes

	// Client writes; Reader reads from the API server, not from a cache: see mendBundles.
	Client client.Client
	Reader client.Reader
	// Owner of the Secret, so that it goes when the release is uninstalled.
	Owner func(context.Context) (metav1.OwnerReference, error)
	// IsLeader tells whether this replica may rotate the CA.
	IsLeader   func() bool
	Recorder   events.EventRecorder
	Registerer prometheus.Registerer
	Log        logr.Logger
	// Now is the clock.
	Now func() time.Time
}

// Manager keeps the webhook's certificates and caBundle in order. One goroutine reconciles; the
// other methods are safe for concurrent use.
type Manager struct {
	opts    Options
	serving *rotation.Serving
	metrics *metrics

	// Only Reconcile uses these.
	memory       rotation.State // the last good state
	missingSince time.Time      // the Secret was first seen missing, with nothing in memory
	trustedSince time.Time      // State.Next was first seen in every caBundle
	reported     string         // the resource version of the Secret last complained about

	mu   sync.Mutex
	view view
}

// view is what readiness is judged by: the cluster as last seen.
type view struct {
	looked    bool
	bundles   map[string][]byte // by webhook name
	secretErr error
}

// New gives a Manager and registers its metrics.
func New(o Options) (*Manager, error) {
	if err := o.Policy.Validate(); err != nil {
		return nil, err
	}
	base := o.ServiceName + "." + o.Namespace + ".svc"
	s := rotation.NewServing(ca.Leaf{
		CommonName: base,
		DNSNames:   []string{base, base + "." + o.ClusterDomain},
		Usages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		Lifetime:   o.Policy.LeafLifetime,
	}, o.Now)
	metrics, err := newMetrics(o.Registerer, s)
	if err != nil {
		return nil, err
	}
	return &Manager{opts: o, serving: s, metrics: metrics}, nil
}

// SetupWithManager has the manager reconcile, with a role that allows the Secret and the
// MutatingWebhookConfiguration by name only. onLead is called with a task to run on becoming leader.
func (m *Manager) SetupWithManager(mgr manager.Manager, onLead func(task func(context.Context))) error {
	return lookout.Add(mgr, lookout.Options{
		Name: "webhook-certificate", Reconciler: m, OnLead: onLead,
		Objects: []lookout.Object{
			{GroupVersion: corev1.SchemeGroupVersion, Kind: "Secret", Namespace: m.opts.Namespace, Name: m.opts.SecretName},
			{GroupVersion: admissionv1.SchemeGroupVersion, Kind: "MutatingWebhookConfiguration", Name: m.opts.ConfigName},
		},
	})
}

// GetCertificate is for tls.Config.
func (m *Manager) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return m.serving.Certificate()
}

// Ready gives an error unless every caBundle, as last seen, covers the certificate that is served.
// With no MutatingWebhookConfiguration no admission can fail, so that is ready.
func (m *Manager) Ready() error {
	m.mu.Lock()
	v := m.view
	m.mu.Unlock()
	cert, err := m.serving.Certificate()
	switch {
	case err != nil && v.secretErr != nil:
		return v.secretErr
	case err != nil:
		return err
	case !v.looked:
		return fmt.Errorf("MutatingWebhookConfiguration %s has not been read yet", m.opts.ConfigName)
	}
	for name, bundle := range v.bundles {
		if err := verify(cert.Leaf, bundle, m.opts.Now()); err != nil {
			return fmt.Errorf("MutatingWebhookConfiguration %s, webhook %s: caBundle does not cover the serving certificate: %w", m.opts.ConfigName, name, err)
		}
	}
	return nil
}

// Note says what is wrong although the replica serves; empty when nothing is.
func (m *Manager) Note() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.view.secretErr != nil:
		return m.view.secretErr.Error() + "; serving with the CA in memory"
	case m.view.looked && m.view.bundles == nil:
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
	secret, state, err := m.readSecret(ctx, anyBundle(config))
	bad := &secretError{}
	switch {
	case errors.Is(err, errWaiting):
		return reconcile.Result{RequeueAfter: restoreGrace / 4}, nil
	case errors.As(err, &bad):
		m.complain(bad)
		state = m.memory
	case err != nil:
		return reconcile.Result{}, err
	}
	authoritative := err == nil
	if authoritative {
		m.remember(state)
		if err = state.Signer.CheckTime(m.opts.Now()); err != nil {
			bad := &secretError{secret: secret, err: err, remedy: remedyLeader}
			m.complain(bad)
			err = bad
		}
	}
	if state.Signer == nil {
		m.look(config, err)
		return reconcile.Result{RequeueAfter: time.Minute}, nil
	}
	inOrder, mendErr := m.mend(ctx, config, state, authoritative)
	m.look(config, err)
	switch {
	case apierrors.IsConflict(mendErr):
		return reconcile.Result{RequeueAfter: 50 * time.Millisecond}, nil
	case mendErr != nil:
		return reconcile.Result{}, fmt.Errorf("caBundle of MutatingWebhookConfiguration %s: %w", m.opts.ConfigName, mendErr)
	case !authoritative:
		return reconcile.Result{RequeueAfter: time.Minute}, nil
	}
	return m.rotate(ctx, secret, state, inOrder)
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

// remember takes over a state that was read from the Secret.
func (m *Manager) remember(s rotation.State) {
	if old := m.memory.Signer; old != nil && !old.Equal(s.Signer) {
		m.opts.Log.Info("webhook CA changed", "from", old.Certificate().Subject.CommonName, "to", s.Signer.Certificate().Subject.CommonName)
	}
	if m.memory.Next == nil || !m.memory.Next.Equal(s.Next) {
		m.trustedSince = time.Time{}
	}
	m.memory = s
	m.serving.Use(s.Signer)
	m.metrics.good(s)
}

// complain names a bad Secret in log, event and metric, once for each version of it.
func (m *Manager) complain(bad *secretError) {
	why := ca.Reason(bad.err)
	m.metrics.bad(why)
	if m.reported == bad.secret.ResourceVersion {
		return
	}
	m.reported = bad.secret.ResourceVersion
	m.opts.Log.Error(bad.err, "webhook CA Secret cannot be used", "secret", m.secretKey(), "reason", why,
		"remedy", bad.remedy, "servingFromMemory", m.memory.Signer != nil)
	m.opts.Recorder.Eventf(bad.secret, nil, corev1.EventTypeWarning, "WebhookCA"+why, "ReadWebhookCA", "%s", bad.Error())
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
	m.metrics.mended.Add(float64(len(mended)))
	m.opts.Log.Info("caBundle mended", "mutatingWebhookConfiguration", config.Name, "webhooks", mended)
	for i := range config.Webhooks {
		w := &config.Webhooks[i].ClientConfig
		w.CABundle = wantedBundle(w.CABundle, s, authoritative)
	}
	return false, nil
}

// look keeps what readiness is judged by.
func (m *Manager) look(config *admissionv1.MutatingWebhookConfiguration, secretErr error) {
	v := view{looked: true, secretErr: secretErr}
	if config != nil {
		v.bundles = map[string][]byte{}
		for _, w := range config.Webhooks {
			v.bundles[w.Name] = w.ClientConfig.CABundle
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.view = v
}

// rotate lets the leader take the next step of the rotation when it is due.
func (m *Manager) rotate(ctx context.Context, secret *corev1.Secret, s rotation.State, inOrder bool) (reconcile.Result, error) {
	now := m.opts.Now()
	switch {
	case s.Next == nil || !inOrder:
		m.trustedSince = time.Time{}
	case m.trustedSince.IsZero():
		m.trustedSince = now
	}
	var trusted time.Duration
	if !m.trustedSince.IsZero() {
		trusted = now.Sub(m.trustedSince)
	}
	next, changed, wait, err := m.opts.Policy.Step(s, now, rotation.Held{Trusted: trusted})
	if err != nil {
		return reconcile.Result{}, err
	}
	if s.Next != nil && !inOrder {
		wait = time.Second // the settle time begins with the first look that finds all in order
	}
	if !changed {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if !m.opts.IsLeader() {
		// Winning the election triggers a look too; this one is for a leader that does not do its work.
		return reconcile.Result{RequeueAfter: time.Minute}, nil
	}
	if err := m.updateSecret(ctx, secret, next); err != nil {
		return reconcile.Result{}, err
	}
	m.opts.Log.Info("webhook CA rotation: one step further", "signer", next.Signer.Certificate().Subject.CommonName,
		"hasNext", next.Next != nil, "previous", len(next.Previous))
	return reconcile.Result{RequeueAfter: 50 * time.Millisecond}, nil
}

func anyBundle(config *admissionv1.MutatingWebhookConfiguration) bool {
	if config == nil {
		return false
	}
	for _, w := range config.Webhooks {
		if len(w.ClientConfig.CABundle) > 0 {
			return true
		}
	}
	return false
}
