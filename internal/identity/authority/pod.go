package authority

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

var bothUsages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

// PodLeaf is the certificate of a pod: its SPIFFE ID as the only name, and in the subject which pod it is,
// "<namespace>/<pod>" as the common name and the UID as the serial number.
func PodLeaf(id spiffe.ID, pod, uid string) ca.Leaf {
	return ca.Leaf{
		CommonName: id.Namespace + "/" + pod, SerialNumber: uid,
		URIs: []*url.URL{id.URL()}, Usages: bothUsages,
	}
}

// ServingLeaf is the certificate of a replica of the control plane.
func ServingLeaf(id spiffe.ID, dnsNames ...string) ca.Leaf {
	return ca.Leaf{CommonName: dnsNames[0], DNSNames: dnsNames, URIs: []*url.URL{id.URL()}, Usages: bothUsages}
}

// Pod reads what PodLeaf wrote. Whether the certificate is valid is for Verify to say. With an error it gives the
// pod as far as it is known.
func (m *Manager) Pod(cert *x509.Certificate) (node.Identity, error) {
	id, err := spiffe.FromCertificate(cert)
	if err != nil {
		return node.Identity{}, err
	}
	namespace, pod, ok := strings.Cut(cert.Subject.CommonName, "/")
	if !ok || namespace != id.Namespace || pod == "" || cert.Subject.SerialNumber == "" {
		return node.Identity{}, fmt.Errorf("certificate of %s: it names no pod", id)
	}
	out := node.Identity{Namespace: namespace, Pod: pod, UID: cert.Subject.SerialNumber, ServiceAccount: id.ServiceAccount}
	if id.TrustDomain != m.opts.TrustDomain {
		return out, fmt.Errorf("certificate of %s: unknown trust domain, want %q (if the mesh's has been changed, make the pod anew)", id, m.opts.TrustDomain)
	}
	return out, nil
}

// Identify is Pod for a certificate that must be valid still. It is asked for each stream of a connection
// that may be older.
func (m *Manager) Identify(cert *x509.Certificate) (node.Identity, error) {
	id, err := m.Pod(cert)
	if now := m.opts.Now(); err == nil && now.After(cert.NotAfter) {
		err = fmt.Errorf("certificate of %s has expired: connect with a new one", cert.Subject.CommonName)
	}
	return id, err
}

// ErrNoCertificate is that of a client that gave none.
var ErrNoCertificate = errors.New("no client certificate: want one of the mesh")

// Verify checks a client's certificate, first, with the intermediates that came with it.
func (m *Manager) Verify(certs []*x509.Certificate) error {
	return m.verify(certs, x509.ExtKeyUsageClientAuth)
}

func (m *Manager) verify(certs []*x509.Certificate, usage x509.ExtKeyUsage) error {
	if len(certs) == 0 {
		return ErrNoCertificate
	}
	intermediates := x509.NewCertPool()
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	_, err := certs[0].Verify(x509.VerifyOptions{
		Roots: m.view.Load().pool, Intermediates: intermediates, CurrentTime: m.opts.Now(),
		KeyUsages: []x509.ExtKeyUsage{usage},
	})
	return err
}
