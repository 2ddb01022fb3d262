package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

// request is what every look is.
var request = reconcile.Request{}

const (
	testNamespace = "mizzen-system"
	testSecret    = "mizzen-ca"
	testService   = "mizzen-controller.mizzen-system.svc"
)

var (
	epoch      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	testPolicy = rotation.Lifetimes{
		CA: ca.Options{CommonName: "test"}, CALifetime: 90 * time.Minute, LeafLifetime: 10 * time.Minute,
		Settle: 2 * time.Minute, Forget: 12 * time.Minute,
	}
)

// world is a cluster and a clock that several replicas share. It is used by one goroutine at a time.
type world struct {
	t      *testing.T
	client client.Client
	now    time.Time
	// uninstalled makes the owner of the Secret disappear.
	uninstalled bool
	// keep is Options.Keep of the replicas that come.
	keep   bool
	policy rotation.Lifetimes
	// agents are what the replicas are told of the agents.
	agents func() Agents
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	return &world{
		t: t, now: epoch, policy: testPolicy, client: fake.NewClientBuilder().WithObjects(objects...).Build(),
		agents: func() Agents { return Agents{} },
	}
}

type replica struct {
	*Manager
	leader   bool
	recorder *events.FakeRecorder
	logged   chan string
	registry *prometheus.Registry
}

func (w *world) replica(leader bool) *replica {
	w.t.Helper()
	id, err := spiffe.Of("cluster.local", testNamespace, "mizzen-controller")
	if err != nil {
		w.t.Fatal(err)
	}
	serving := ServingLeaf(id, testService)
	serving.Lifetime = w.policy.LeafLifetime
	r := &replica{leader: leader, recorder: events.NewFakeRecorder(100), logged: make(chan string, 10_000), registry: prometheus.NewRegistry()}
	r.Manager, err = New(Options{
		Namespace: testNamespace, SecretName: testSecret, TrustDomain: "cluster.local", Serving: serving, Policy: w.policy,
		Client: w.client, Reader: w.client,
		Owner: func(context.Context) (metav1.OwnerReference, error) {
			if w.uninstalled {
				return metav1.OwnerReference{}, errors.New("Service not found")
			}
			return metav1.OwnerReference{APIVersion: "v1", Kind: "Service", Name: "mizzen-controller", UID: "1"}, nil
		},
		Keep: w.keep, IsLeader: func() bool { return r.leader }, Agents: func(context.Context) Agents { return w.agents() },
		Recorder: r.recorder, Registerer: r.registry, Log: funcr.New(func(_, args string) { r.logged <- args }, funcr.Options{}), Now: func() time.Time { return w.now },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// reconcile looks once and wants no error.
func (w *world) reconcile(replicas ...*replica) {
	w.t.Helper()
	for _, r := range replicas {
		if _, err := r.Reconcile(w.t.Context(), request); err != nil {
			w.t.Fatal(err)
		}
	}
}

// after lets time pass and has each replica look as often as it asks for, and not more seldom than once a
// minute.
func (w *world) after(d time.Duration, replicas ...*replica) {
	w.t.Helper()
	for end := w.now.Add(d); ; {
		w.reconcile(replicas...)
		if !w.now.Before(end) {
			return
		}
		w.now = w.now.Add(min(15*time.Second, end.Sub(w.now)))
	}
}

func (w *world) secret() *corev1.Secret {
	w.t.Helper()
	s := &corev1.Secret{}
	if err := w.client.Get(w.t.Context(), client.ObjectKey{Namespace: testNamespace, Name: testSecret}, s); err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) update(change func(*corev1.Secret)) {
	w.t.Helper()
	s := w.secret()
	change(s)
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
	cert, err := r.TLS(true).GetCertificate(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert.Leaf
}

// data is the Secret as cert-manager writes it.
func (w *world) data(a *ca.Authority, roots ...*ca.Authority) map[string][]byte {
	w.t.Helper()
	key, err := a.KeyPEM()
	if err != nil {
		w.t.Fatal(err)
	}
	var certs []*x509.Certificate
	for _, r := range roots {
		certs = append(certs, r.Certificate())
	}
	return map[string][]byte{corev1.TLSCertKey: a.CertPEM(), corev1.TLSPrivateKeyKey: key, keyRoots: ca.EncodeCertificates(certs...)}
}

func (w *world) newRoot(lifetime time.Duration) *ca.Authority {
	w.t.Helper()
	a, err := ca.Generate(ca.Options{CommonName: "own root", Now: w.now, Lifetime: lifetime})
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

func ownSecret(data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: testSecret, Labels: map[string]string{"theirs": "yes"}}, Type: corev1.SecretTypeTLS, Data: data}
}

// newCA is one that parent has signed, or a root without one. Unlike those of ca.Generate it may stand above
// others.
func (w *world) newCA(name string, lifetime time.Duration, parent *ca.Authority, change ...func(*x509.Certificate)) *ca.Authority {
	w.t.Helper()
	fail := func(err error) {
		if err != nil {
			w.t.Helper()
			w.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: w.now.Add(-time.Hour), NotAfter: w.now.Add(lifetime),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	for _, c := range change {
		c(template)
	}
	above, signer := template, crypto.Signer(key)
	if parent != nil {
		parentPEM, err := parent.KeyPEM()
		fail(err)
		signer, err = ca.ParseKey(parentPEM)
		fail(err)
		above = parent.Certificate()
	}
	der, err := x509.CreateCertificate(rand.Reader, template, above, key.Public(), signer)
	fail(err)
	cert, err := x509.ParseCertificate(der)
	fail(err)
	keyPEM, err := ca.EncodeKey(key)
	fail(err)
	a, err := ca.Load(ca.EncodeCertificates(cert), keyPEM)
	fail(err)
	return a
}
