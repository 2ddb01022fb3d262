package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// The CA Secret is broken, deleted and replaced by the user's own, under load. What cannot be used is named in log,
// metric and event, and what was good goes on; what is deleted comes back; what is good is used.
func TestOwnCA(t *testing.T) {
	alone(t, shortLives...)
	if withoutMesh {
		t.Skip("identities need the mesh")
	}
	e := newEnv(t, true)
	c := e.calledWithIdentity()
	original, root := e.caSecret()
	e.Cleanup(func() { e.restoreCA(original) })

	for name, broken := range e.brokenCAs() {
		t.Run(name, func(t *testing.T) { e.breakCA(t, broken) })
	}
	// Certificates are signed as before.
	e.create(e.pod("newcomer", serverPod()))
	newcomer := cluster.Pod{Namespace: e.ns, Name: "newcomer"}
	e.must(e.WaitPodReady(e.ctx, newcomer, readyTimeout))
	e.shows(e.workload(newcomer), root)

	e.must(e.CoreV1().Secrets(cluster.SystemNamespace).Delete(e.ctx, caSecretName, metav1.DeleteOptions{}))
	e.eventually(30*time.Second, func() (string, error) {
		list, err := e.CoreV1().Secrets(cluster.SystemNamespace).List(e.ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + caSecretName})
		if err != nil || len(list.Items) == 0 {
			return "the Secret, restored", err
		}
		return "", nil
	})
	if restored, again := e.caSecret(); !again.Equal(root) || string(restored.Data[corev1.TLSPrivateKeyKey]) != string(original.Data[corev1.TLSPrivateKeyKey]) {
		t.Errorf("the Secret was restored with another CA: %q, want %q", again.Subject.CommonName, root.Subject.CommonName)
	}
	e.eventually(stepTime, func() (string, error) {
		if n, want := e.counted("mizzen_identity_ca_secret_usable"), float64(len(e.replicas())); n != want {
			return fmt.Sprintf("%g of %g replicas that can use the restored Secret", n, want), nil
		}
		return "", nil
	})

	ownRoot, own := e.likeCertManager()
	start := time.Now()
	e.setCA(own)
	e.eventually(renewed, func() (string, error) { return e.missing(c.workloads, ownRoot), nil })
	figure(t, "every sidecar has a certificate of the user's own CA, after", time.Since(start).Round(time.Second).String(), "")
	late := cluster.Pod{Namespace: e.ns, Name: "late"}
	e.create(e.pod(late.Name, serverPod()))
	e.must(e.WaitPodReady(e.ctx, late, readyTimeout))
	e.shows(e.workload(late), ownRoot)
	c.noFailures(e, "while the CA's Secret was broken, deleted and replaced")
}

// brokenCA is a Secret that cannot be used, and the word for why.
type brokenCA struct {
	data   map[string][]byte
	reason string
}

func (e *env) brokenCAs() map[string]brokenCA {
	e.Helper()
	good, expired := e.newCA("good", time.Hour), e.newCA("expired", -time.Minute)
	_, key := e.madeBy(&x509.Certificate{Subject: pkix.Name{CommonName: "other"}}, nil, nil)
	leaf, leafKey := e.madeBy(&x509.Certificate{Subject: pkix.Name{CommonName: "leaf"}, KeyUsage: x509.KeyUsageDigitalSignature}, nil, nil)
	expiredKey, err := expired.KeyPEM()
	e.must(err)
	data := func(cert []byte, key []byte) map[string][]byte {
		return map[string][]byte{corev1.TLSCertKey: cert, corev1.TLSPrivateKeyKey: key}
	}
	return map[string]brokenCA{
		"another key": {data(good.CertPEM(), ecKey(key)), "KeyMismatch"},
		"expired":     {data(expired.CertPEM(), expiredKey), "Expired"},
		"no CA":       {data(ca.EncodeCertificates(leaf), ecKey(leafKey)), "NotCA"},
		"no PEM":      {data([]byte("oops"), ecKey(key)), "Unparsable"},
	}
}

// breakCA puts a Secret there that cannot be used.
func (e *env) breakCA(t *testing.T, broken brokenCA) {
	metric := fmt.Sprintf("mizzen_identity_ca_secret_errors_total{reason=%q}", broken.reason)
	start, before := time.Now(), e.counted(metric)
	e.setCA(broken.data)
	e.must(e.polled(30*time.Second, func() (string, error) {
		if n := e.counted(metric) - before; n < float64(len(e.replicas())) {
			return fmt.Sprintf("%s counted %g more, want it of every replica", metric, n), nil
		}
		if n := e.counted("mizzen_identity_ca_secret_usable"); n > 0 {
			return fmt.Sprintf("%g replicas say the Secret can be used", n), nil
		}
		if found, err := e.logged(start, "identity CA Secret cannot be used", broken.reason, "remedy"); !found || err != nil {
			return "a line in the log with " + broken.reason, err
		}
		if found, err := e.warned(cluster.SystemNamespace, caSecretName, "IdentityCA"+broken.reason); !found || err != nil {
			return "a warning about the Secret with " + broken.reason, err
		}
		return "", nil
	}))
	// It serves as before, and says what is wrong.
	for _, p := range e.replicas() {
		status, body, err := e.Get(e.ctx, p, config.ControllerHTTPPort, "readyz")
		if err != nil || status != 200 || !strings.Contains(string(body), caSecretName) {
			t.Errorf("readiness of %s: %v, status %d, want 200 with a word about Secret %s: %s", p.Name, err, status, caSecretName, body)
		}
	}
}

// setCA replaces what the CA's Secret holds; it is no longer ours then.
func (e *env) setCA(data map[string][]byte) {
	e.Helper()
	secrets := e.CoreV1().Secrets(cluster.SystemNamespace)
	e.must(retry.RetryOnConflict(retry.DefaultRetry, func() error {
		s, err := secrets.Get(e.ctx, caSecretName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s.Annotations, s.Data = nil, data
		_, err = secrets.Update(e.ctx, s, metav1.UpdateOptions{})
		return err
	}))
}

// restoreCA brings back the CA of before the test, whatever has become of it. The installation that follows makes
// every replica read it anew.
func (e *env) restoreCA(original *corev1.Secret) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	secrets := mesh.CoreV1().Secrets(cluster.SystemNamespace)
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		s, err := secrets.Get(ctx, caSecretName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s.Annotations, s.Data = original.Annotations, original.Data
		_, err = secrets.Update(ctx, s, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		e.Errorf("restore Secret %s: %v", caSecretName, err)
	}
}

// likeCertManager makes what cert-manager writes for a Certificate with isCA whose issuer is a CA:
// the intermediate in tls.crt, its key in SEC 1, the root in ca.crt.
// https://cert-manager.io/docs/reference/api-docs/#cert-manager.io/v1.CertificateSpec
func (e *env) likeCertManager() (root *x509.Certificate, data map[string][]byte) {
	e.Helper()
	signs := func(name string) *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{CommonName: name}, IsCA: true,
			KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		}
	}
	root, rootKey := e.madeBy(signs("our root"), nil, nil)
	intermediate, key := e.madeBy(signs("our mesh"), root, rootKey)
	return root, map[string][]byte{
		corev1.TLSCertKey: ca.EncodeCertificates(intermediate), corev1.TLSPrivateKeyKey: ecKey(key), "ca.crt": ca.EncodeCertificates(root),
	}
}

// madeBy signs a certificate with a new key; nil signs itself.
func (e *env) madeBy(template, by *x509.Certificate, byKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	e.Helper()
	key := e.newKey()
	if by == nil {
		by, byKey = template, key
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	e.must(err)
	template.SerialNumber, template.BasicConstraintsValid = serial, true
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(24*time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, by, key.Public(), byKey)
	e.must(err)
	cert, err := x509.ParseCertificate(der)
	e.must(err)
	return cert, key
}

func ecKey(key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		panic(err) // the curve is a known one
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})
}
