package authority

import (
	"crypto/tls"
)

// TLS serves with this replica's certificate, chosen for each handshake, and asks for the client's. With
// required a client without a valid one of the mesh is refused in the handshake; else Verify has to be
// asked where it matters.
//
// Sessions are not resumed: each connection shows its certificate.
func (m *Manager) TLS(required bool) *tls.Config {
	c := &tls.Config{
		MinVersion:             tls.VersionTLS13,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return m.serving.Certificate() },
		ClientAuth:             tls.RequestClientCert,
		SessionTicketsDisabled: true,
	}
	if required {
		c.VerifyConnection = func(s tls.ConnectionState) error { return m.Verify(s.PeerCertificates) }
	}
	return c
}
