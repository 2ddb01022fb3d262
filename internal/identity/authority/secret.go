package authority

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// AnnotationManaged marks a Secret that the control plane wrote: the SHA-256 of its tls.crt in hex. Without
// it, or when tls.crt is another, the Secret is somebody else's and only read.
const AnnotationManaged = config.Group + "/managed"

// keyRoots has all roots that are trusted. tls.crt and tls.key hold the signer and, behind it, its intermediates.
const keyRoots = "ca.crt"

func managed(secret *corev1.Secret) bool {
	return secret.Annotations[AnnotationManaged] == mark(secret.Data)
}

func mark(data map[string][]byte) string {
	sum := sha256.Sum256(data[corev1.TLSCertKey])
	return hex.EncodeToString(sum[:])
}

// decode reads a Secret. Somebody else's CA must be able to sign the leaf now; an expired one of ours is for
// rotation.Lifetimes.Step to replace. The error names the key and wraps a reason of package ca.
func decode(secret *corev1.Secret, leaf ca.Leaf) (s rotation.State, err error) {
	data := secret.Data
	if !managed(secret) {
		if s.Signer, err = ca.LoadChain(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey], data[keyRoots], leaf); err != nil {
			return rotation.State{}, fmt.Errorf("%s, %s, %s: %w", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, keyRoots, err)
		}
		return s, nil
	}
	return rotation.Decode(data, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
}

// encode makes the Secret one of ours that decode reads.
func encode(secret *corev1.Secret, s rotation.State) error {
	data, err := rotation.Encode(s, corev1.TLSCertKey, corev1.TLSPrivateKeyKey)
	if err != nil {
		return err
	}
	data[keyRoots] = []byte(api.Roots(s.Trusted()...))
	secret.Data = data
	if secret.Type == "" {
		secret.Type = corev1.SecretTypeTLS
	}
	if secret.Annotations == nil {
		secret.Annotations = map[string]string{}
	}
	secret.Annotations[AnnotationManaged] = mark(data)
	return nil
}
