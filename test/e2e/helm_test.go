package e2e

import (
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// The chart's own test: the control plane is ready, and a pod would get its sidecar.
func TestHelmTest(t *testing.T) {
	beside(t)
	out, err := mesh.Helm(t.Context(), "test", cluster.Release, "-n", cluster.SystemNamespace, "--timeout", "2m")
	if err != nil || !strings.Contains(out, "Succeeded") {
		t.Errorf("helm test: %v\n%s", err, out)
	}
}
