package golden

import (
	"os"
	"path/filepath"
	"testing"
)

func TestUpdateWritesAndPrunes(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "case")
	write(t, filepath.Join(dir, "in.yaml"), "in")
	write(t, filepath.Join(dir, "err.txt"), "left over")

	run := func(t *testing.T) {
		Run(t, root, func(t *testing.T, c *Case) {
			c.Check(t, "out.yaml", append(c.Read(t, "in.yaml"), " out"...))
			if _, ok := c.ReadOptional(t, "mesh.yaml"); ok {
				t.Error("found a file that is not there")
			}
		})
	}
	*update = true
	run(t)
	*update = false
	if got, err := os.ReadFile(filepath.Join(dir, "out.yaml")); err != nil || string(got) != "in out" {
		t.Errorf("out.yaml = %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "err.txt")); !os.IsNotExist(err) {
		t.Errorf("err.txt is still there: %v", err)
	}
	run(t) // and what was written is accepted
}

func TestCheckFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out.yaml")
	write(t, path, "one")
	probe := &recorder{TB: t}
	Check(probe, path, []byte("two"))
	if !probe.failed {
		t.Error("a difference was accepted")
	}
}

// recorder notes a failure instead of failing the test that owns it.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
