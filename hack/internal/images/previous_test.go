package images

import "testing"

func TestPreviousRevision(t *testing.T) {
	const commit = "0123456789abcdef0123456789abcdef01234567"
	for name, c := range map[string]struct{ changelog, want string }{
		"before the first release": {"# Changelog\n\n## [Unreleased]\n\nTested from commit `" + commit + "`.\n", commit},
		"a release":                {"## [Unreleased]\n\nfrom commit `" + commit + "`\n\n## [0.2.0-rc.1] - 2027-01-01\n\n## [0.1.0] - 2026-12-31\n", "v0.2.0-rc.1"},
		"neither":                  {"## [Unreleased]\n", ""},
	} {
		got, err := previousRevision(c.changelog)
		if got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%s: %q, %v, want %q", name, got, err, c.want)
		}
	}
}
