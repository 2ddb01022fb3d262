package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
)

// Describe tells what is in use, and nothing of the key.
func (i *Identity) Describe() agentapi.Identity {
	now := i.current.Load()
	out := agentapi.Identity{ControlPlane: i.opts.Address}
	for _, root := range now.roots.certs {
		out.Roots = append(out.Roots, describeAuthority(root))
	}
	if why := i.trouble.Load(); why != nil {
		out.Trouble = *why
	}
	if now.certificate == nil {
		return out
	}
	leaf := now.certificate.Leaf
	out.Certificate = &agentapi.Certificate{
		ID: leaf.URIs[0].String(), Serial: fmt.Sprintf("%X", leaf.SerialNumber), Issuer: leaf.Issuer.String(),
		NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
	}
	if at := i.renewal.Load(); at != nil { // not yet for a moment after the first
		out.Certificate.Renewal = at.UTC()
	}
	for _, der := range now.certificate.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil { // check has parsed it
			out.Intermediates = append(out.Intermediates, describeAuthority(c))
		}
	}
	return out
}

func describeAuthority(c *x509.Certificate) agentapi.Authority {
	sum := sha256.Sum256(c.Raw)
	return agentapi.Authority{
		Subject: c.Subject.String(), Fingerprint: hex.EncodeToString(sum[:]), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
	}
}
