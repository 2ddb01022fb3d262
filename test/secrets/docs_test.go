package secrets

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var testNamed = regexp.MustCompile("`([a-z0-9]+)\\.(Test[A-Za-z0-9]+)(/[a-z-]+)?`")

// Every test that docs/security.md names is there.
func TestPromisesHaveTests(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs/security.md"))
	if err != nil {
		t.Fatal(err)
	}
	tests := testFiles(t)
	named := testNamed.FindAllSubmatch(doc, -1)
	if len(named) < 20 {
		t.Errorf("%d tests named", len(named))
	}
	for _, m := range named {
		pkg, name := string(m[1]), string(m[2])
		if !strings.Contains(tests[pkg], "func "+name+"(t *testing.T)") {
			t.Errorf("package %s has no %s", pkg, name)
		}
	}
}

// testFiles gives the text of all tests of each package, by its last name, without "_test".
func testFiles(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && hidden(path, d) {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, rest, _ := strings.Cut("\n"+string(b), "\npackage ")
		name, _, _ := strings.Cut(rest, "\n")
		out[strings.TrimSuffix(name, "_test")] += string(b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
