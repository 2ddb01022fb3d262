package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
)

// markEnv is the proxy's variable with a hash of the two containers that injection made. If a pod arrives with a
// sidecar, the hash distinguishes a reinvocation by the API server, before which other webhooks may have changed our
// containers, from a copy of a pod. An annotation could not do that, because copies, restores and other webhooks may
// drop it.
const markEnv = "MIZZEN_INJECTION"

// mark adds the hash to a sidecar's containers, of which the proxy is the first. It does so before roots and probes are
// added, because these may change without a new sidecar.
func mark(made []corev1.Container) error {
	b, err := json.Marshal(made)
	if err != nil {
		return fmt.Errorf("encode the sidecar: %w", err)
	}
	sum := sha256.Sum256(b)
	setEnv(&made[0], markEnv, hex.EncodeToString(sum[:8]))
	return nil
}
