package webhookcert

import (
	"crypto/x509"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/casecret/casecrettest"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// request is what every look is.
var request = reconcile.Request{}

const testConfig = "mizzen"

var (
	epoch      = casecrettest.Epoch
	testPolicy = rotation.Lifetimes{CALifetime: 90 * time.Minute, LeafLifetime: 10 * time.Minute, Settle: 2 * time.Minute}
)

type world struct{ *casecrettest.World }

func newWorld(t *testing.T, objects ...client.Object) *world {
	return &world{casecrettest.New(t, "mizzen-webhook-ca", objects...)}
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
				Service: &admissionv1.ServiceReference{Namespace: casecrettest.Namespace, Name: casecrettest.Service},
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
	*casecrettest.Replica
}

func (w *world) replica(p rotation.Lifetimes, leader bool) *replica {
	w.T.Helper()
	r, o := w.Replica(leader, p)
	m, err := New(Options{Options: o, ServiceName: casecrettest.Service, ConfigName: testConfig, ClusterDomain: "cluster.local"})
	if err != nil {
		w.T.Fatal(err)
	}
	return &replica{m, r}
}

// reconcile looks once and wants no error.
func (w *world) reconcile(r *replica) reconcile.Result {
	w.T.Helper()
	res, err := r.Reconcile(w.T.Context(), request)
	if err != nil {
		w.T.Fatal(err)
	}
	return res
}

func (w *world) state() rotation.State {
	w.T.Helper()
	s, err := decode(w.Secret())
	if err != nil {
		w.T.Fatal(err)
	}
	return s
}

func (w *world) config() *admissionv1.MutatingWebhookConfiguration {
	w.T.Helper()
	c := &admissionv1.MutatingWebhookConfiguration{}
	if err := w.Client.Get(w.T.Context(), types.NamespacedName{Name: testConfig}, c); err != nil {
		w.T.Fatal(err)
	}
	return c
}

// setBundles is somebody else's hand on the caBundles.
func (w *world) setBundles(b []byte) {
	w.T.Helper()
	c := w.config()
	for i := range c.Webhooks {
		c.Webhooks[i].ClientConfig.CABundle = b
	}
	if err := w.Client.Update(w.T.Context(), c); err != nil {
		w.T.Fatal(err)
	}
}

func (w *world) setSecretData(key string, value []byte) {
	w.T.Helper()
	w.UpdateSecret(func(s *corev1.Secret) { s.Data[key] = value })
}

func (w *world) leaf(r *replica) *x509.Certificate {
	w.T.Helper()
	cert, err := r.GetCertificate(nil)
	if err != nil {
		w.T.Fatal(err)
	}
	return cert.Leaf
}

func wantReady(t *testing.T, r *replica) {
	t.Helper()
	if err := r.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
}
