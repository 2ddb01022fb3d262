package release

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Names of files of every release.
const (
	sumsFile      = "SHA256SUMS"
	signatureFile = sumsFile + ".sig"
)

// sums writes the checksums of all files, as sha256sum does, and signs them.
func (b Build) sums(dir string) error {
	list, err := hashes(dir)
	if err != nil {
		return err
	}
	var text bytes.Buffer
	for _, f := range list {
		fmt.Fprintf(&text, "%s  %s\n", f.SHA256, f.Name)
	}
	if err := os.WriteFile(filepath.Join(dir, sumsFile), text.Bytes(), 0o644); err != nil || b.Key == nil {
		return err
	}
	signature, err := sign(b.Key, text.Bytes())
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, signatureFile), signature, 0o644)
}

// file is a file of a release.
type file struct{ Name, SHA256 string }

// hashes returns the files of a directory by name.
func hashes(dir string) ([]file, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var list []file
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		list = append(list, file{e.Name(), fmt.Sprintf("%x", sha256.Sum256(data))})
	}
	return list, nil
}

// ParseKey reads a private key in PEM, PKCS #8 as `openssl genpkey` writes it or SEC 1: Ed25519, or ECDSA on P-256.
// The text may also be the path of a file that has it.
func ParseKey(text string) (crypto.Signer, error) {
	data := []byte(text)
	if !bytes.HasPrefix(data, []byte("-----BEGIN ")) {
		var err error
		if data, err = os.ReadFile(text); err != nil {
			return nil, fmt.Errorf("MIZZEN_SIGNING_KEY: allowed is a private key in PEM or a file that has one: %w", err)
		}
	}
	const allowed = "MIZZEN_SIGNING_KEY: allowed is a private key in PEM without a password, Ed25519 or ECDSA P-256"
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default: // such as EC PARAMETERS
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", allowed, err)
		}
		switch k := key.(type) {
		case ed25519.PrivateKey:
			return k, nil
		case *ecdsa.PrivateKey:
			if k.Curve == elliptic.P256() {
				return k, nil
			}
		}
	}
	return nil, errors.New(allowed)
}

// sign returns the signature that openssl verifies: of the text itself with Ed25519, of its SHA-256 with ECDSA. The
// same key and text give the same signature.
func sign(key crypto.Signer, text []byte) ([]byte, error) {
	if _, ok := key.(ed25519.PrivateKey); ok {
		return key.Sign(nil, text, crypto.Hash(0))
	}
	sum := sha256.Sum256(text)
	return key.Sign(nil, sum[:], crypto.SHA256) // without randomness: RFC 6979
}

// Compare returns the names of the files that differ between two releases or are in one alone.
func Compare(a, b string) ([]string, error) {
	first, err1 := hashes(a)
	second, err2 := hashes(b)
	var differ []string
	for _, f := range append(slices.Clone(first), second...) {
		if (!slices.Contains(first, f) || !slices.Contains(second, f)) && !slices.Contains(differ, f.Name) {
			differ = append(differ, f.Name)
		}
	}
	return differ, errors.Join(err1, err2)
}
