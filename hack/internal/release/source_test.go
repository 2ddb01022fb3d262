package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// repository makes one with a commit of 2001-09-09 and a tag of it, v0.1.0.
func repository(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "chart/Chart.yaml", "name: x")
	write(t, dir, "main.go", "package main")
	write(t, dir, ".gitignore", "/ignored\n")
	write(t, dir, "ignored", "x")
	git(t, dir, "init", "-q")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-qm", "one")
	git(t, dir, "tag", "v0.1.0")
	return dir
}

func git(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=n", "-c", "user.email=e"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=1000000000 +0000", "GIT_CONFIG_GLOBAL=/dev/null")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestReadSource(t *testing.T) {
	dir := repository(t)
	s, err := ReadSource(dir, "v0.1.0", "", false)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Commit) != 40 || s.Time.Unix() != 1e9 || s.Dirty || !slices.Equal(s.Files, []string{".gitignore", "chart/Chart.yaml", "main.go"}) {
		t.Errorf("source %+v", s)
	}
	if s, err = ReadSource(dir, "v0.1.0", "5", false); err != nil || !s.Time.Equal(time.Unix(5, 0)) {
		t.Errorf("time %v with an epoch of 5, error %v", s.Time, err)
	}
	if _, err = ReadSource(dir, "v0.1.0", "soon", false); err == nil || !strings.Contains(err.Error(), `SOURCE_DATE_EPOCH "soon"`) {
		t.Errorf("error %v", err)
	}
	to := t.TempDir()
	if err := s.Copy("chart", to); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(to, "Chart.yaml")); err != nil || !st.ModTime().Equal(time.Unix(5, 0)) {
		t.Errorf("the copy: %v, %v", st, err)
	}
	if entries, err := os.ReadDir(to); err != nil || len(entries) != 1 {
		t.Errorf("copied %v, error %v", entries, err)
	}
}

func TestReadSourceRefusesChanges(t *testing.T) {
	dir := repository(t)
	write(t, dir, "new.go", "package main")
	if _, err := ReadSource(dir, "v0.1.0", "", false); err == nil || !strings.Contains(err.Error(), "new.go") || !strings.Contains(err.Error(), "ALLOW_DIRTY=1") {
		t.Errorf("error %v", err)
	}
	s, err := ReadSource(dir, "v0.1.0", "", true)
	if err != nil || !s.Dirty || !slices.Contains(s.Files, "new.go") {
		t.Errorf("allowed: %+v, %v", s, err)
	}
}

func TestReadSourceRefusesAnotherCommitsTag(t *testing.T) {
	dir := repository(t)
	write(t, dir, "new.go", "package main")
	git(t, dir, "add", ".")
	git(t, dir, "commit", "-qm", "two")
	if _, err := ReadSource(dir, "v0.1.0", "", false); err == nil || !strings.Contains(err.Error(), "tag v0.1.0") {
		t.Errorf("error %v", err)
	}
	if _, err := ReadSource(dir, "v0.2.0", "", false); err != nil {
		t.Errorf("a tag that is not there yet: %v", err)
	}
}
