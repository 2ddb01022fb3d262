package webhookcert

import (
	"context"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// request is what every look is.
var request = reconcile.Request{}

const (
	testNamespace = "mizzen-system"
	testSecret    = "mizzen-webhook-ca"
	testConfig    = "mizzen"
	testService   = "mizzen-controller"
)

var (
	epoch      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	testPolicy = rotation.Lifetimes{CALifetime: 90 * time.Minute, LeafLifetime: 10 * time.Minute, Settle: 2 * time.Minute}
)

// world is a cluster and a clock that several replicas share. It is used by one goroutine at a time.
type world struct {
	t      *testing.T
	client client.Client
	now    time.Time
	// uninstalled makes the owner of the Secret disappear.
	uninstalled bool
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	return &world{t: t, now: epoch, client: fake.NewClientBuilder().WithObjects(objects...).Build()}
}

// webhookConfig is what the chart applies: two webhooks without a caBundle.
func webhookConfig() *admissionv1.MutatingWebhookConfiguration {
	hook := func(name string) admissionv1.MutatingWebhook {
		none := admissionv1.SideEffectClassNone
		return admissionv1.MutatingWebhook{
			Name:                    name,
			SideEffects:             &none,
			AdmissionReviewVersions: []string{"v1"},
			ClientConfig: admissionv1.WebhookClientConfig{
				Service: &admissionv1.ServiceReference{Namespace: testNamespace, Name: testService},
			},
		}
	}
	return &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: testConfig},
		Webhooks:   []admissionv1.MutatingWebhook{hook("namespaces.injection.mizzen.dev"), hook("pods.injection.mizzen.dev")},
	}
}

type replica struct {
	*Manager
	leader   bool
	recorder *events.FakeRecorder
	registry *prometheus.Registry
}

func (w *world) replica(p rotation.Lifetimes, leader bool) *replica {
	w.t.Helper()
	r := &replica{leader: leader, recorder: events.NewFakeRecorder(100), registry: prometheus.NewRegistry()}
	m, err := New(Options{
		Namespace: testNamespace, SecretName: testSecret, ServiceName: testService, ConfigName: testConfig,
		ClusterDomain: "cluster.local", Policy: p, Client: w.client, Reader: w.client,
		Owner: func(context.Context) (metav1.OwnerReference, error) {
			if w.uninstalled {
				return metav1.OwnerReference{}, errors.New("Service not found")
			}
			return metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: testService, UID: "1"}, nil
		},
		IsLeader: func() bool { return r.leader }, Recorder: r.recorder, Registerer: r.registry,
		Log: logr.Discard(), Now: func() time.Time { return w.now },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	r.Manager = m
	return r
}

// reconcile looks once and wants no error.
func (w *world) reconcile(r *replica) reconcile.Result {
	w.t.Helper()
	res, err := r.Reconcile(w.t.Context(), request)
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

func (w *world) secret() *corev1.Secret {
	w.t.Helper()
	s := &corev1.Secret{}
	if err := w.client.Get(w.t.Context(), types.NamespacedName{Namespace: testNamespace, Name: testSecret}, s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) state() rotation.State {
	w.t.Helper()
	s, err := Decode(w.secret().Data)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) config() *admissionv1.MutatingWebhookConfiguration {
	w.t.Helper()
	c := &admissionv1.MutatingWebhookConfiguration{}
	if err := w.client.Get(w.t.Context(), types.NamespacedName{Name: testConfig}, c); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// setBundles is somebody else's hand on the caBundles.
func (w *world) setBundles(b []byte) {
	w.t.Helper()
	c := w.config()
	for i := range c.Webhooks {
		c.Webhooks[i].ClientConfig.CABundle = b
	}
	if err := w.client.Update(w.t.Context(), c); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) setSecretData(key string, value []byte) {
	w.t.Helper()
	s := w.secret()
	s.Data[key] = value
	if err := w.client.Update(w.t.Context(), s); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) deleteSecret() {
	w.t.Helper()
	if err := w.client.Delete(w.t.Context(), w.secret()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) leaf(r *replica) *x509.Certificate {
	w.t.Helper()
	cert, err := r.GetCertificate(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert.Leaf
}

func wantReady(t *testing.T, r *replica) {
	t.Helper()
	if err := r.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
}
