package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// markEnv is the variable of the proxy that says what injection made: a hash of its two containers. Where a pod comes
// in with a sidecar, it tells the API server's reinvocation, between which other webhooks may have changed our containers,
// from a copy of a pod. An annotation could not: copies and restores drop them, and so may other webhooks.
const markEnv = "MIZZEN_INJECTION"

// mark marks the containers of a sidecar, the proxy being the first, before roots and probes are added: these change without
// the sidecar being another one.
func mark(made []corev1.Container) error {
	b, err := json.Marshal(made)
	if err != nil {
		return fmt.Errorf("encode the sidecar: %w", err)
	}
	sum := sha256.Sum256(b)
	setEnv(&made[0], markEnv, hex.EncodeToString(sum[:8]))
	return nil
}
