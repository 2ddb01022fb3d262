package release

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func pemOf(t *testing.T, kind string, der []byte, err error) string {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// The commands of docs/release.md accept the signature of each kind of key, and refuse it for another text.
func TestSignaturesVerifyWithOpenSSL(t *testing.T) {
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("no openssl")
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ed, edErr := x509.MarshalPKCS8PrivateKey(edKey)
	ec, ecErr := x509.MarshalPKCS8PrivateKey(ecKey)
	sec1, sec1Err := x509.MarshalECPrivateKey(ecKey)
	for name, c := range map[string]struct {
		key    string
		verify []string
	}{
		"Ed25519":           {pemOf(t, "PRIVATE KEY", ed, edErr), []string{"pkeyutl", "-verify", "-pubin", "-inkey", "key.pub", "-rawin", "-in", sumsFile, "-sigfile", signatureFile}},
		"ECDSA P-256":       {pemOf(t, "PRIVATE KEY", ec, ecErr), []string{"dgst", "-sha256", "-verify", "key.pub", "-signature", signatureFile, sumsFile}},
		"ECDSA P-256 SEC 1": {pemOf(t, "EC PRIVATE KEY", sec1, sec1Err), []string{"dgst", "-sha256", "-verify", "key.pub", "-signature", signatureFile, sumsFile}},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := ParseKey(c.key)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			write(t, dir, "a", "x")
			if err := (Build{Key: key}).sums(dir); err != nil {
				t.Fatal(err)
			}
			public, err := x509.MarshalPKIXPublicKey(key.Public())
			write(t, dir, "key.pub", pemOf(t, "PUBLIC KEY", public, err))
			verify := func() error {
				cmd := exec.Command("openssl", c.verify...)
				cmd.Dir = dir
				return cmd.Run()
			}
			if err := verify(); err != nil {
				t.Errorf("openssl %v: %v", c.verify, err)
			}
			text, err := os.ReadFile(filepath.Join(dir, sumsFile))
			if err != nil {
				t.Fatal(err)
			}
			write(t, dir, sumsFile, string(text)+" ")
			if err := verify(); err == nil {
				t.Error("openssl accepts the signature of another text")
			}
			first, err1 := sign(key, text)
			second, err2 := sign(key, text)
			if err1 != nil || err2 != nil || !slices.Equal(first, second) {
				t.Errorf("two signatures of the same text: %x, %x, %v, %v", first, second, err1, err2)
			}
		})
	}
}

func TestParseKeyRefuses(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	for name, key := range map[string]string{
		"a file that is not there": filepath.Join(t.TempDir(), "key"),
		"RSA":                      pemOf(t, "PRIVATE KEY", der, err),
		"a password":               pemOf(t, "ENCRYPTED PRIVATE KEY", []byte("x"), nil),
		"no key":                   "-----BEGIN nothing",
	} {
		if _, err := ParseKey(key); err == nil || !strings.Contains(err.Error(), "MIZZEN_SIGNING_KEY: allowed is") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestSumsAndCompare(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	for _, dir := range []string{a, b} {
		write(t, dir, "same", "x")
		write(t, dir, "other", dir)
	}
	write(t, b, "more", "x")
	differ, err := Compare(a, b)
	if err != nil || !slices.Equal(differ, []string{"other", "more"}) {
		t.Errorf("differ: %v, %v", differ, err)
	}
	if differ, err := Compare(a, a); err != nil || len(differ) != 0 {
		t.Errorf("a directory differs from itself: %v, %v", differ, err)
	}
	if err := (Build{}).sums(a); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sha256sum", "--check", "--strict", sumsFile)
	cmd.Dir = a
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "same: OK") {
		t.Errorf("sha256sum: %v\n%s", err, out)
	}
	if _, err := os.Stat(filepath.Join(a, signatureFile)); err == nil {
		t.Error("a signature without a key")
	}
}
