// Package api is what a sidecar's agent and the control plane say to each other about certificates:
// JSON over HTTPS on config.IdentityPort. It may import the standard library only.
//
// The server's certificate is signed by the mesh's CA for the DNS names of the control plane's Service and
// for the SPIFFE ID of its service account; the client verifies it against its trust bundle.
package api

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"slices"
	"time"
)

const (
	// CertificatePath answers POST of a CertificateRequest with a Certificate. The header "Authorization:
	// Bearer <token>" has a projected service account token of the pod for Audience.
	//
	// 400: the signing request is bad. 401: the token is. 403: the token is not of the pod that asks, or the
	// request is for another identity. 429: too many requests. 503: the control plane cannot, try again.
	// All with an Error.
	CertificatePath = "/v1/certificate"
	// BundlePath answers GET with a Bundle, to a client with a certificate of the mesh. With the parameter
	// HaveParameter it answers when the mesh's bundle has another version, at once if it has already; 204
	// without a body after BundleWait.
	//
	// HaveParameter is a statement as well: Envoy has acknowledged the bundle of that version. A root signs
	// only when all connected agents have said so. An agent whose Envoy has acknowledged none, or that has
	// got a newer one not acknowledged yet, names the older version, or none: it is answered at once, and
	// asks again when Envoy has acknowledged.
	BundlePath = "/v1/bundle"
	// HaveParameter is a Bundle's version.
	HaveParameter = "have"
)

// Audience of the token. The API server accepts tokens for it from nobody, so that a token that is stolen
// from a request is worth nothing elsewhere.
const Audience = "mizzen.dev"

// MaxBody is the size in bytes of a request's or an answer's body.
const MaxBody = 64 << 10

// BundleWait is how long a request for the bundle waits at most. A client's own timeout is longer.
const BundleWait = 60 * time.Second

// CertificateRequest asks for a certificate.
type CertificateRequest struct {
	// CSR is a PKCS #10 request in PEM, signed with an ECDSA key of 256 bits at least. The names in it are
	// none, or one URI, the SPIFFE ID of the pod's service account.
	CSR string `json:"csr"`
}

// Certificate is a signed one.
type Certificate struct {
	// Certificate is PEM: the leaf, then its intermediates.
	Certificate string `json:"certificate"`
	// Bundle is PEM: all roots trusted at present. It may be newer than what BundlePath gave last.
	Bundle string `json:"bundle"`
}

// Bundle holds the roots of the mesh.
type Bundle struct {
	// Bundle is PEM as Roots gives it, Version is what Version gives of it.
	Bundle  string `json:"bundle"`
	Version string `json:"version"`
}

// Error is the body of every answer that is not 200 or 204.
type Error struct {
	// Error says what is wrong and what to do, to a person.
	Error string `json:"error"`
}

// Roots writes certificates as a bundle: PEM, sorted and without doubles, so that the same roots are the
// same bytes wherever they come from.
func Roots(certs ...*x509.Certificate) string {
	certs = slices.Clone(certs)
	slices.SortFunc(certs, func(a, b *x509.Certificate) int {
		return cmp.Or(a.NotBefore.Compare(b.NotBefore), bytes.Compare(a.Raw, b.Raw))
	})
	certs = slices.CompactFunc(certs, (*x509.Certificate).Equal)
	var out bytes.Buffer
	for _, c := range certs {
		out.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
	}
	return out.String()
}

// Version of a bundle: the SHA-256 of its PEM in hex.
func Version(bundle string) string {
	sum := sha256.Sum256([]byte(bundle))
	return hex.EncodeToString(sum[:])
}
