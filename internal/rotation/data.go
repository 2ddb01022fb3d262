package rotation

import (
	"fmt"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

// Keys of a Secret's data beside the signer's, which are the caller's.
const (
	KeyNextCert = "next.crt"
	KeyNextKey  = "next.key"
	KeyPrevious = "previous.crt"
)

// Decode reads a Secret's data, with the signer at these keys. The error names the key and wraps a reason of
// package ca. Validity in time is not checked: an expired signer is for Lifetimes.Step to replace.
func Decode(data map[string][]byte, signerCert, signerKey string) (State, error) {
	signer, err := ca.Load(data[signerCert], data[signerKey])
	if err != nil {
		return State{}, fmt.Errorf("%s, %s: %w", signerCert, signerKey, err)
	}
	s := State{Signer: signer}
	if len(data[KeyNextCert]) > 0 || len(data[KeyNextKey]) > 0 {
		if s.Next, err = ca.Load(data[KeyNextCert], data[KeyNextKey]); err != nil {
			return State{}, fmt.Errorf("%s, %s: %w", KeyNextCert, KeyNextKey, err)
		}
	}
	if s.Previous, err = ca.ParseCertificates(data[KeyPrevious]); err != nil {
		return State{}, fmt.Errorf("%s: %w", KeyPrevious, err)
	}
	return s, nil
}

// Encode gives the data that Decode reads.
func Encode(s State, signerCert, signerKey string) (map[string][]byte, error) {
	key, err := s.Signer.KeyPEM()
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{signerCert: s.Signer.CertPEM(), signerKey: key}
	if s.Next != nil {
		if key, err = s.Next.KeyPEM(); err != nil {
			return nil, err
		}
		data[KeyNextCert], data[KeyNextKey] = s.Next.CertPEM(), key
	}
	if len(s.Previous) > 0 {
		data[KeyPrevious] = ca.EncodeCertificates(s.Previous...)
	}
	return data, nil
}
