package gateway

import (
	"slices"
	"testing"
)

// The CRD of GatewayClass allows 64 features.
func TestFeaturesFitTheirField(t *testing.T) {
	got := Features()
	if len(got) > 64 || !slices.IsSorted(got) {
		t.Errorf("%d features, sorted: %v; want at most 64, sorted: %q", len(got), slices.IsSorted(got), got)
	}
}
