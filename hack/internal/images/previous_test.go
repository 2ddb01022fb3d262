package images

import (
	"slices"
	"testing"
)

func TestPreviousRevisions(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	for name, c := range map[string]struct {
		changelog string
		want      []string
	}{
		"before the first release": {"# Changelog\n\n## [Unreleased]\n\nTested from commit `" + commit + "`.\n", []string{commit}},
		"releases":                 {"## [Unreleased]\n\nfrom commit `" + commit + "`\n\n## [0.2.0-rc.1] - 2027-01-01\n\n## [0.1.0] - 2026-12-31\n", []string{"v0.2.0-rc.1", "v0.1.0", commit}},
		"neither":                  {"## [Unreleased]\n", nil},
	} {
		if got := previousRevisions(c.changelog); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
