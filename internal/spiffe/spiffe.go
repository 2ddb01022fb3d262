// Package spiffe reads and writes the identities of workloads: SPIFFE IDs of the form
// "spiffe://<trust domain>/ns/<namespace>/sa/<service account>". It may import the standard library,
// go-spiffe's spiffeid and the validation of Kubernetes' names.
//
// The specification: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md
package spiffe

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"k8s.io/apimachinery/pkg/util/validation"
)

// ID is the identity of a workload: its service account in a mesh.
type ID struct {
	TrustDomain, Namespace, ServiceAccount string
}

// String is the ID as a URI.
func (id ID) String() string {
	return "spiffe://" + id.TrustDomain + "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount
}

// URL is the ID as a certificate holds it.
func (id ID) URL() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: id.TrustDomain, Path: "/ns/" + id.Namespace + "/sa/" + id.ServiceAccount}
}

// Parse reads a URI. The error repeats it and says what is wrong.
func Parse(uri string) (ID, error) {
	id, err := spiffeid.FromString(uri)
	if err != nil {
		return ID{}, fmt.Errorf("SPIFFE ID %q: %w", uri, err)
	}
	parts := strings.Split(id.Path(), "/")
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" {
		return ID{}, fmt.Errorf(`SPIFFE ID %q: want "spiffe://<trust domain>/ns/<namespace>/sa/<service account>"`, uri)
	}
	out := ID{TrustDomain: id.TrustDomain().Name(), Namespace: parts[2], ServiceAccount: parts[4]}
	return out, out.validate()
}

// Of gives the ID of a service account, or an error if that cannot be one.
func Of(trustDomain, namespace, serviceAccount string) (ID, error) {
	if err := ValidTrustDomain(trustDomain); err != nil {
		return ID{}, err
	}
	id := ID{TrustDomain: trustDomain, Namespace: namespace, ServiceAccount: serviceAccount}
	return id, id.validate()
}

// FromCertificate reads the ID of a certificate, which must have exactly one URI.
// https://github.com/spiffe/spiffe/blob/main/standards/X509-SVID.md#2-spiffe-id
func FromCertificate(c *x509.Certificate) (ID, error) {
	if len(c.URIs) != 1 {
		return ID{}, fmt.Errorf("certificate with %d URIs: want one, a SPIFFE ID", len(c.URIs))
	}
	return Parse(c.URIs[0].String())
}

func (id ID) validate() error {
	if msgs := validation.IsDNS1123Label(id.Namespace); len(msgs) > 0 {
		return fmt.Errorf("SPIFFE ID %q: namespace: %s", id, strings.Join(msgs, "; "))
	}
	if msgs := validation.IsDNS1123Subdomain(id.ServiceAccount); len(msgs) > 0 {
		return fmt.Errorf("SPIFFE ID %q: service account: %s", id, strings.Join(msgs, "; "))
	}
	return nil
}

// ValidTrustDomain gives an error unless the name may be a trust domain.
func ValidTrustDomain(name string) error {
	td, err := spiffeid.TrustDomainFromString(name)
	switch {
	case err != nil:
		return fmt.Errorf("trust domain %q: %w", name, err)
	case td.Name() != name: // a URI is taken for the trust domain in it
		return fmt.Errorf("trust domain %q: want only the name, %q", name, td.Name())
	case len(name) > 255:
		return errors.New("trust domain: want at most 255 bytes")
	}
	return nil
}
