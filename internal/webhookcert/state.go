package webhookcert

import (
	"fmt"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// Keys of the Secret.
const (
	keySignerCert = "ca.crt"
	keySignerKey  = "ca.key"
	keyNextCert   = "next.crt"
	keyNextKey    = "next.key"
	keyPrevious   = "previous.crt"
)

// Decode reads a Secret's data. The error names the key and wraps a reason of package ca. Validity in
// time is not checked: an expired signer is for rotation.Policy.Step to replace.
func Decode(data map[string][]byte) (rotation.State, error) {
	signer, err := ca.Load(data[keySignerCert], data[keySignerKey])
	if err != nil {
		return rotation.State{}, fmt.Errorf("%s, %s: %w", keySignerCert, keySignerKey, err)
	}
	s := rotation.State{Signer: signer}
	if len(data[keyNextCert]) > 0 || len(data[keyNextKey]) > 0 {
		if s.Next, err = ca.Load(data[keyNextCert], data[keyNextKey]); err != nil {
			return rotation.State{}, fmt.Errorf("%s, %s: %w", keyNextCert, keyNextKey, err)
		}
	}
	if s.Previous, err = ca.ParseCertificates(data[keyPrevious]); err != nil {
		return rotation.State{}, fmt.Errorf("%s: %w", keyPrevious, err)
	}
	return s, nil
}

// Encode gives the data that Decode reads.
func Encode(s rotation.State) (map[string][]byte, error) {
	key, err := s.Signer.KeyPEM()
	if err != nil {
		return nil, err
	}
	data := map[string][]byte{keySignerCert: s.Signer.CertPEM(), keySignerKey: key}
	if s.Next != nil {
		if key, err = s.Next.KeyPEM(); err != nil {
			return nil, err
		}
		data[keyNextCert], data[keyNextKey] = s.Next.CertPEM(), key
	}
	if len(s.Previous) > 0 {
		data[keyPrevious] = ca.EncodeCertificates(s.Previous...)
	}
	return data, nil
}
