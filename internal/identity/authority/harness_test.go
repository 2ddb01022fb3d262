package authority

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/casecret/casecrettest"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

// request is what every look is.
var request = reconcile.Request{}

const (
	testNamespace = casecrettest.Namespace
	testSecret    = "mizzen-ca"
	testService   = "mizzen-controller.mizzen-system.svc"
)

var (
	epoch      = casecrettest.Epoch
	testPolicy = rotation.Lifetimes{
		CA: ca.Options{CommonName: "test"}, CALifetime: 90 * time.Minute, LeafLifetime: 10 * time.Minute,
		Settle: 2 * time.Minute, Forget: 12 * time.Minute,
	}
)

type world struct {
	*casecrettest.World
	// keep and readOnly are Options.Keep and ReadOnly of the replicas that come.
	keep, readOnly bool
	policy         rotation.Lifetimes
	// agents are what the replicas are told of the agents.
	agents func() Agents
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	return &world{World: casecrettest.New(t, testSecret, objects...), policy: testPolicy, agents: func() Agents { return Agents{} }}
}

type replica struct {
	*Manager
	*casecrettest.Replica
}

func (w *world) replica(leader bool) *replica {
	w.T.Helper()
	id, err := spiffe.Of("cluster.local", testNamespace, "mizzen-controller")
	if err != nil {
		w.T.Fatal(err)
	}
	serving := ServingLeaf(id, testService)
	serving.Lifetime = w.policy.LeafLifetime
	r, o := w.Replica(leader, w.policy)
	o.ReadOnly = w.readOnly
	m, err := New(Options{
		Options: o, TrustDomain: "cluster.local", Serving: serving, Keep: w.keep,
		Agents: func(context.Context) Agents { return w.agents() },
	})
	if err != nil {
		w.T.Fatal(err)
	}
	return &replica{m, r}
}

// reconcile looks once and wants no error.
func (w *world) reconcile(replicas ...*replica) {
	w.T.Helper()
	for _, r := range replicas {
		if _, err := r.Reconcile(w.T.Context(), request); err != nil {
			w.T.Fatal(err)
		}
	}
}

// after lets time pass and has each replica look as often as it asks for, and not more seldom than once a
// minute.
func (w *world) after(d time.Duration, replicas ...*replica) {
	w.T.Helper()
	for end := w.Now.Add(d); ; {
		w.reconcile(replicas...)
		if !w.Now.Before(end) {
			return
		}
		w.Now = w.Now.Add(min(15*time.Second, end.Sub(w.Now)))
	}
}

func (w *world) leaf(r *replica) *x509.Certificate {
	w.T.Helper()
	cert, err := r.TLS(true).GetCertificate(nil)
	if err != nil {
		w.T.Fatal(err)
	}
	return cert.Leaf
}

// data is the Secret as cert-manager writes it.
func (w *world) data(a *ca.Authority, roots ...*ca.Authority) map[string][]byte {
	w.T.Helper()
	key, err := a.KeyPEM()
	if err != nil {
		w.T.Fatal(err)
	}
	var certs []*x509.Certificate
	for _, r := range roots {
		certs = append(certs, r.Certificate())
	}
	return map[string][]byte{corev1.TLSCertKey: a.CertPEM(), corev1.TLSPrivateKeyKey: key, keyRoots: ca.EncodeCertificates(certs...)}
}

func (w *world) newRoot(lifetime time.Duration) *ca.Authority {
	w.T.Helper()
	a, err := ca.Generate(ca.Options{CommonName: "own root", Now: w.Now, Lifetime: lifetime})
	if err != nil {
		w.T.Fatal(err)
	}
	return a
}

func ownSecret(data map[string][]byte) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: testSecret, Labels: map[string]string{"theirs": "yes"}}, Type: corev1.SecretTypeTLS, Data: data}
}

// newCA is one that parent has signed, or a root without one. Unlike those of ca.Generate it may stand above
// others.
func (w *world) newCA(name string, lifetime time.Duration, parent *ca.Authority, change ...func(*x509.Certificate)) *ca.Authority {
	w.T.Helper()
	fail := func(err error) {
		if err != nil {
			w.T.Helper()
			w.T.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	fail(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: w.Now.Add(-time.Hour), NotAfter: w.Now.Add(lifetime),
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
