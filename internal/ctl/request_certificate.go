package ctl

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// showCertificate leaves the certificate that Envoy shows for a server name: of several the first that is good for it. If none is,
// a note says so. Of what could not be read nothing is known, and clients without a server name take what comes.
func (out *requestView) showCertificate(v gatewayView, serverName string) {
	if serverName == "" {
		return
	}
	var names []string
	for _, secret := range out.Certificates {
		namespace, name, _ := strings.Cut(secret, "/")
		key := mesh.Key{Namespace: namespace, Name: name}
		if v.assumed.Has(mesh.ID{Kind: mesh.KindSecret, Key: key}) {
			return
		}
		leaf := v.certificate(key)
		if leaf == nil {
			return
		}
		if leaf.VerifyHostname(serverName) == nil {
			out.Certificates = []string{secret}
			return
		}
		names = append(names, leaf.DNSNames...)
	}
	if len(out.Certificates) > 0 {
		slices.Sort(names)
		out.CertificateNote = fmt.Sprintf("not for %q, so clients refuse it; it is for %s", serverName, listed(slices.Compact(names)))
	}
}

func listed(names []string) string {
	if len(names) == 0 {
		return "no host name"
	}
	return strings.Join(names, ", ")
}

// certificate returns the first certificate of a Secret's chain, or nil.
func (v gatewayView) certificate(secret mesh.Key) *x509.Certificate {
	for _, s := range v.model.Secrets {
		if s.Name != v.model.CertificateName(secret) {
			continue
		}
		if block, _ := pem.Decode(s.Chain); block != nil {
			leaf, err := x509.ParseCertificate(block.Bytes)
			if err == nil {
				return leaf
			}
		}
	}
	return nil
}
