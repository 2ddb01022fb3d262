package identity

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// roots are whom the workload trusts: one at least.
type roots struct {
	pem, version string
	certs        []*x509.Certificate
	pool         *x509.CertPool
}

// parseRoots reads PEM. It is written anew, so that the same roots have the same version wherever they come from.
func parseRoots(text string) (roots, error) {
	if len(text) > api.MaxBody {
		return roots{}, fmt.Errorf("trust bundle: %d bytes, want at most %d", len(text), api.MaxBody)
	}
	certs, err := ca.ParseCertificates([]byte(text))
	if err != nil {
		return roots{}, fmt.Errorf("trust bundle: %w", err)
	}
	if len(certs) == 0 {
		return roots{}, errors.New("trust bundle: no certificate; want at least one")
	}
	r := roots{certs: certs, pool: x509.NewCertPool()}
	for _, c := range certs {
		if !c.IsCA {
			return roots{}, fmt.Errorf("trust bundle: certificate %q %w", c.Subject.CommonName, ca.ErrNotCA)
		}
		r.pool.AddCert(c)
	}
	r.pem = api.Roots(certs...)
	r.version = api.Version(r.pem)
	return r, nil
}

// startRoots prefers what an earlier container of this pod has left: it came from the control plane after
// the pod was made. Roots of both are not added up, or one that the mesh has forgotten would be back.
func startRoots(o Options) (roots, error) {
	given, err := parseRoots(o.Bundle)
	if err != nil {
		return roots{}, fmt.Errorf("environment variable %s: %w", contract.TrustBundleEnv, err)
	}
	text, err := o.Keep.read()
	if text == "" && err == nil {
		return given, nil
	}
	if err == nil {
		var kept roots
		if kept, err = parseRoots(text); err == nil {
			return kept, nil
		}
	}
	o.Log.Warn("cannot use the roots that an earlier container stored, using those from injection", "file", o.Keep.File, "error", err)
	return given, nil
}
