package authority

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

// TLS serves with this replica's certificate, chosen for each handshake, and asks for the client's. With
// required a client without a valid one of the mesh is refused in the handshake; else Verify has to be
// asked where it matters.
//
// Sessions are not resumed: each connection shows its certificate.
func (m *Manager) TLS(required bool) *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.secret.Certificate() },
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
	}
	if required {
		c.VerifyConnection = func(s tls.ConnectionState) error { return m.Verify(s.PeerCertificates) }
	}
	return c
}

// PeerTLS is how a replica calls another one: each shows its own serving certificate.
func (m *Manager) PeerTLS() *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return m.secret.Certificate() },
		InsecureSkipVerify:   true, // replicas are called by address, which no certificate has: the identity counts
		VerifyConnection: func(s tls.ConnectionState) error {
			return m.peer(s.PeerCertificates, x509.ExtKeyUsageServerAuth)
		},
	}
}

// Peer gives an error unless a client's certificates are those of a replica of the control plane.
func (m *Manager) Peer(certs []*x509.Certificate) error {
	return m.peer(certs, x509.ExtKeyUsageClientAuth)
}

func (m *Manager) peer(certs []*x509.Certificate, usage x509.ExtKeyUsage) error {
	if err := m.verify(certs, usage); err != nil {
		return err
	}
	id, err := spiffe.FromCertificate(certs[0])
	if err != nil {
		return err
	}
	if own := m.opts.Serving.URIs[0].String(); id.String() != own {
		return fmt.Errorf("certificate of %s: want one of the control plane, %s", id, own)
	}
	return nil
}
