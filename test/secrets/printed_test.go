package secrets

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

const (
	goodToken    = "token-of-the-pod-4f1c9a"
	foreignToken = "token-of-another-audience-77be20"
	// patience is how long a test waits for what must come.
	patience = 10 * time.Second
)

// TestNothingPrintsASecret has the control plane and an agent do all that they do with secrets, good and bad, and
// looks at what they say.
func TestNothingPrintsASecret(t *testing.T) {
	w := newWorld(t)
	secrets := map[string][]string{"the pod's token": {goodToken}, "a foreign token": {foreignToken}}
	secrets["the CA's key"] = shapes(t, w.secret().Data[corev1.TLSPrivateKeyKey])
	secrets["the pod's key"] = shapes(t, w.agent(goodToken))
	w.refused(foreignToken)
	secrets["another CA's key"] = w.breakSecret()

	w.wrote("the debug page", w.page(w.issuer.Debug()))
	w.wrote("the record of the CA", []byte(strings.Join(values(w.record().Data), "\n")))
	for _, r := range []*prometheus.Registry{w.metrics, w.agentMetrics} {
		w.wrote("the metrics", exposition(t, r))
	}
	for part, words := range map[string][]string{
		"the control plane's log": {"certificate signed", "shop/web-1", "cannot be used", "refused a request"},
		"the agent's log":         {"certificate obtained", "no new certificate"},
		"the events":              {"IdentityCA", "KeyMismatch", "shop/web-1"},
		"the metrics":             {"mizzen_identity_requests_total", "mizzen_agent_certificate_expiry"},
		"the debug page":          {"signer"},
		"the record of the CA":    {"BEGIN CERTIFICATE"},
		"readiness":               {"mizzen-ca"},
		"the agent's files":       {"BEGIN CERTIFICATE"},
	} {
		text := w.printed(part)
		for _, word := range words { // or the test looks at nothing
			if !strings.Contains(text, word) {
				t.Errorf("%s does not say %q:\n%s", part, word, text)
			}
		}
		for name, forms := range secrets {
			for _, form := range forms {
				if strings.Contains(text, form) {
					t.Errorf("%s has %s:\n%s", part, name, text)
				}
			}
		}
	}
}

// shapes are the forms in which a key could be printed.
func shapes(t *testing.T, keyPEM []byte) []string {
	t.Helper()
	key, err := ca.ParseKey(keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(keyPEM)
	d := key.(*ecdsa.PrivateKey)
	raw, err := d.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(d)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{string(raw), hex.EncodeToString(raw), new(big.Int).SetBytes(raw).String(), encode(string(keyPEM))[20:60], base64.StdEncoding.EncodeToString(sec1)[:60]}
	for line := range strings.SplitSeq(string(pem.EncodeToMemory(block)), "\n") {
		if len(line) > 20 && !strings.Contains(line, "-----") {
			out = append(out, line)
		}
	}
	return out
}

func encode(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func values(m map[string]string) []string {
	var out []string
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

func exposition(t *testing.T, r *prometheus.Registry) []byte {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&out, f); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}
