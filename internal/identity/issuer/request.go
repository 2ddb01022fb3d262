package issuer

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

// maxToken is the largest size of a token in bytes. A projected token has about 1,200.
const maxToken = 16 << 10

// readToken returns the bearer token of a request.
func readToken(h http.Header) (string, error) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", fmt.Errorf(`%d headers "Authorization": want one, "Bearer <token>"`, len(values))
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	switch {
	case !ok || !strings.EqualFold(scheme, "Bearer"):
		return "", errors.New(`header "Authorization": want "Bearer <token>"`)
	case token == "" || len(token) > maxToken:
		return "", fmt.Errorf("token of %d bytes: want 1 to %d", len(token), maxToken)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New("the token has invalid characters")
	}
	return token, nil
}

// readRequest reads the body of a request for a certificate.
func readRequest(body io.Reader) (*x509.CertificateRequest, error) {
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	var req api.CertificateRequest
	if err := dec.Decode(&req); err != nil {
		return nil, fmt.Errorf("body: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("body: want one JSON object and nothing after it")
	}
	return readCSR([]byte(req.CSR))
}

// readCSR reads a signing request and checks its signature and key. The request may contain no name but one URI, which
// checkName checks.
func readCSR(text []byte) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errors.New(`csr: want one PEM block "CERTIFICATE REQUEST"`)
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("csr: %w", err)
	}
	key, ok := csr.PublicKey.(*ecdsa.PublicKey)
	switch {
	case !ok:
		return nil, fmt.Errorf("csr: %s key: want ECDSA of at least 256 bits", csr.PublicKeyAlgorithm)
	case key.Curve.Params().BitSize < 256:
		return nil, fmt.Errorf("csr: ECDSA key of %d bits: want at least 256", key.Curve.Params().BitSize)
	case len(csr.DNSNames)+len(csr.EmailAddresses)+len(csr.IPAddresses) > 0 || len(csr.URIs) > 1:
		return nil, errors.New("csr: want no name, or one URI with the pod's SPIFFE ID")
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("csr: signature: %w", err)
	}
	return csr, nil
}

// checkName returns an error if the signing request is for another identity.
func checkName(csr *x509.CertificateRequest, id spiffe.ID) error {
	if len(csr.URIs) == 1 && csr.URIs[0].String() != id.String() {
		return fmt.Errorf("csr: %q: the token is for %s", csr.URIs[0], id)
	}
	return nil
}
