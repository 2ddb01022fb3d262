// Package release builds what a release is made of: binaries, images and the chart for each platform, with checksums,
// a list of components, and a statement of where they come from. It may import other packages of hack, but none that
// runs the embedded cluster.
package release

import (
	"fmt"
	"strings"

	"golang.org/x/mod/semver"
)

// Allowed is what a release may be called.
const Allowed = "vMAJOR.MINOR.PATCH, or vMAJOR.MINOR.PATCH-PRE for a pre-release, such as v0.1.0 or v0.2.0-rc.1"

// ParseVersion returns the version that a tag names, without the v: so binaries, images and the chart call it.
func ParseVersion(tag string) (string, error) {
	if tag == "" || tag == "dev" { // the Makefile's default
		return "", fmt.Errorf("VERSION is not set: allowed is %s", Allowed)
	}
	// Canonical completes v1 to v1.0.0 and drops what follows a +, which no image tag can have.
	if !semver.IsValid(tag) || semver.Canonical(tag) != tag {
		return "", fmt.Errorf("VERSION %q: allowed is %s", tag, Allowed)
	}
	return strings.TrimPrefix(tag, "v"), nil
}
