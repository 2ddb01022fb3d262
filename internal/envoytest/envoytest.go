// Package envoytest lets tests ask the real Envoy. It may import the standard library only.
package envoytest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Path gives the Envoy binary: MIZZEN_ENVOY (set by make) or .build/tools/envoy in the repository.
// Where there is none the test fails under make and in CI, and is skipped in a plain `go test`. With -short it is
// always skipped.
func Path(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: no test with Envoy")
	}
	path, required := os.LookupEnv("MIZZEN_ENVOY")
	if path == "" {
		path = filepath.Join(repoRoot(), ".build", "tools", "envoy")
	}
	if _, err := os.Stat(path); err != nil {
		if required || os.Getenv("CI") == "true" {
			t.Fatalf("no Envoy: %v", err)
		}
		t.Skipf("no Envoy at %s: `make tools` gets it, or set MIZZEN_ENVOY", path)
	}
	return path
}

// knowingly are the fields that Mizzen sets although Envoy calls them work in progress:
//
//   - Without allow_custom_methods Envoy refuses every method that is not on a list. Where requests are judged it is not set.
//   - The matcher of udp_proxy replaces a field that is deprecated.
var knowingly = []string{
	"'envoy.config.core.v3.Http1ProtocolOptions.allow_custom_methods' is marked as work-in-progress",
	"'envoy.extensions.filters.udp.udp_proxy.v3.UdpProxyConfig.matcher' is marked as work-in-progress",
}

// Validate fails the test if Envoy refuses the bootstrap (JSON), or warns about it, as it does about
// deprecated fields.
func Validate(t testing.TB, bootstrap []byte) {
	t.Helper()
	warnings, err := check(Path(t), t.TempDir(), bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range warnings {
		t.Errorf("Envoy warns: %s", w)
	}
}

func check(envoy, dir string, bootstrap []byte) (warnings []string, err error) {
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command(envoy, "--mode", "validate", "-c", file, "-l", "warning", "--log-format", "[%l] %v") //nolint:noctx // it ends by itself
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("Envoy refuses the configuration: %w\n%s", err, out) //nolint:staticcheck // a name
	}
	for line := range strings.Lines(string(out)) {
		known := slices.ContainsFunc(knowingly, func(field string) bool { return strings.Contains(line, field) })
		if strings.HasPrefix(line, "[warning]") && !known {
			warnings = append(warnings, line)
		}
	}
	return warnings, nil
}

func repoRoot() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}
