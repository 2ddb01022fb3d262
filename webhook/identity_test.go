package webhook

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

func roots(t testing.TB) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/identity/bundle.pem")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// leaf is a certificate that cannot sign.
const leaf = `-----BEGIN CERTIFICATE-----
MIIBcjCCARigAwIBAgIUCsVVNXTeCOD0j2FbRQz5Pv3lmS0wCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEbGVhZjAgFw0yNjExMjQwNDEwNTdaGA8yMTI2MTAzMTA0MTA1
N1owDzENMAsGA1UEAwwEbGVhZjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABP65
S2kXT9UFmy3wyfmUv0BEzyML6WwWoMcbnPD7Ow+5R8O9tdWetMbibIfI0XasM6a1
o4VlCdU9nwjJQjWLsm+jUDBOMB0GA1UdDgQWBBSIzsxL+aaiq4svmqfAGVcGxMEd
JzAfBgNVHSMEGDAWgBSIzsxL+aaiq4svmqfAGVcGxMEdJzAMBgNVHRMBAf8EAjAA
MAoGCCqGSM49BAMCA0gAMEUCIG7tkS0dH692vG99DdqOpPD1VJDli0gdhDwnCF+9
UUYnAiEA2jWKpAPPaGv+zOEJcoTksftf5qBuLcz5PnlaCwBw+5s=
-----END CERTIFICATE-----
`

func TestCheckTrustBundle(t *testing.T) {
	good := string(roots(t))
	for name, tt := range map[string]struct{ bundle, want string }{
		"one root":      {good, ""},
		"two":           {good + good, ""},
		"empty":         {"", "trust bundle: no certificate"},
		"text":          {"hello", "trust bundle: cannot be parsed: not PEM"},
		"cut":           {good[:len(good)/2], "trust bundle: cannot be parsed"},
		"text behind":   {good + "x", "trust bundle: cannot be parsed: not PEM"},
		"a private key": {"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", `PEM block "PRIVATE KEY", want "CERTIFICATE"`},
		"a leaf":        {leaf, `trust bundle: certificate "leaf" is not a CA certificate`},
		"huge":          {strings.Repeat(good, api.MaxBody/len(good)+1), "want at most 65536"},
	} {
		err := CheckTrustBundle([]byte(tt.bundle))
		if (err != nil) != (tt.want != "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// Without roots a sidecar could not start, so the pod is refused, with the reason.
func TestHandlerGivesRoots(t *testing.T) {
	for name, tt := range map[string]struct {
		bundle []byte
		err    error
		want   string
	}{
		"roots":     {roots(t), nil, ""},
		"no CA yet": {nil, errors.New("Secret mizzen-ca is broken"), "the control plane has no certificate authority: Secret mizzen-ca is broken"},
		"none":      {nil, nil, "no certificate authority: trust bundle: no certificate"},
		"no roots":  {[]byte("x"), nil, "no certificate authority: trust bundle: cannot be parsed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRigWith(t, func() ([]byte, error) { return tt.bundle, tt.err })
			response := r.post(t, plainPod, nil)
			if tt.want == "" {
				if patch := string(response.Patch); !response.Allowed || !strings.Contains(patch, contract.TrustBundleEnv) ||
					!strings.Contains(patch, `"audience":"mizzen.dev"`) {
					t.Errorf("%+v", response)
				}
				return
			}
			if response.Allowed || response.Patch != nil || !strings.Contains(response.Result.Message, tt.want) || response.Result.Code != 503 {
				t.Errorf("%+v, want 503 with %q", response.Result, tt.want)
			}
		})
	}
}

// Whatever a file of roots holds: no crash, and what is taken is nothing but CA certificates.
func FuzzCheckTrustBundle(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(roots(f))
	f.Add(append(roots(f), roots(f)...))
	f.Add([]byte(leaf))
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		if CheckTrustBundle(bundle) != nil {
			return
		}
		certs, err := ca.ParseCertificates(bundle)
		if err != nil || len(certs) == 0 || strings.Contains(string(bundle), "PRIVATE KEY") {
			t.Errorf("taken: %d certificates, %v: %q", len(certs), err, bundle)
		}
	})
}
