package release

import (
	"strings"
	"testing"
)

func TestParseVersion(t *testing.T) {
	for tag, want := range map[string]string{"v0.1.0": "0.1.0", "v1.20.3": "1.20.3", "v0.2.0-rc.1": "0.2.0-rc.1"} {
		if got, err := ParseVersion(tag); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", tag, got, err, want)
		}
	}
	for _, tag := range []string{"", "dev", "0.1.0", "v1", "v1.2", "v01.2.3", "v1.2.3+build", "v1.2.3-01", "v1.2.3 ", "latest"} {
		if got, err := ParseVersion(tag); err == nil || !strings.Contains(err.Error(), Allowed) || !strings.Contains(err.Error(), "VERSION") {
			t.Errorf("%q: got %q, error %v", tag, got, err)
		}
	}
}
