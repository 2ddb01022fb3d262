package webhookcert

import (
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

// Keys of the Secret.
const (
	keySignerCert = "ca.crt"
	keySignerKey  = "ca.key"
	keyNextCert   = "next.crt"
	keyNextKey    = "next.key"
	keyPrevious   = "previous.crt"
)

// State is the webhook's CA in all its generations, as the Secret holds it.
type State struct {
	// Signer signs the replicas' leaves.
	Signer *ca.Authority
	// Next is trusted already and becomes the signer after the settle time. Usually nil.
	Next *ca.Authority
	// Previous are trusted until they expire; their keys are gone.
	Previous []*x509.Certificate
}

// Decode reads a Secret's data. The error names the key and wraps a reason of package ca. Validity in
// time is not checked: an expired signer is for Policy.Step to replace.
func Decode(data map[string][]byte) (State, error) {
	signer, err := ca.Load(data[keySignerCert], data[keySignerKey])
	if err != nil {
		return State{}, fmt.Errorf("%s, %s: %w", keySignerCert, keySignerKey, err)
	}
	s := State{Signer: signer}
	if len(data[keyNextCert]) > 0 || len(data[keyNextKey]) > 0 {
		if s.Next, err = ca.Load(data[keyNextCert], data[keyNextKey]); err != nil {
			return State{}, fmt.Errorf("%s, %s: %w", keyNextCert, keyNextKey, err)
		}
	}
	if s.Previous, err = ca.ParseCertificates(data[keyPrevious]); err != nil {
		return State{}, fmt.Errorf("%s: %w", keyPrevious, err)
	}
	return s, nil
}

// Encode gives the data that Decode reads.
func (s State) Encode() (map[string][]byte, error) {
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

// Trusted are all certificates that the caBundle must hold, in a fixed order.
func (s State) Trusted() []*x509.Certificate {
	if s.Signer == nil {
		return nil
	}
	certs := []*x509.Certificate{s.Signer.Certificate()}
	if s.Next != nil {
		certs = append(certs, s.Next.Certificate())
	}
	return append(certs, s.Previous...)
}

// reason is the metric label and event reason for a Secret that cannot be used.
func reason(err error) string {
	for _, r := range []struct {
		err  error
		name string
	}{
		{ca.ErrKeyMismatch, "KeyMismatch"},
		{ca.ErrNotCA, "NotCA"},
		{ca.ErrUnparsable, "Unparsable"},
		{ca.ErrExpired, "Expired"},
		{ca.ErrNotYetValid, "NotYetValid"},
	} {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "Unknown"
}
