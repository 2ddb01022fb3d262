// Package envoytest lets tests ask the real Envoy. It may import the standard library only.
package envoytest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Path gives the Envoy binary: MIZZEN_ENVOY (set by make) or .build/tools/envoy in the repository.
// Where there is none the test fails under make and in CI, and is skipped in a plain `go test`.
func Path(t testing.TB) string {
	t.Helper()
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

// Validate fails the test if Envoy refuses the bootstrap (JSON), or warns about it, as it does about
// deprecated fields.
func Validate(t testing.TB, bootstrap []byte) {
	t.Helper()
	envoy := Path(t)
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, bootstrap, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(envoy, "--mode", "validate", "-c", file, "-l", "warning", "--log-format", "[%l] %v")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("Envoy refuses the configuration: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "[warning]") {
			t.Errorf("Envoy warns: %s", line)
		}
	}
}

func repoRoot() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}
