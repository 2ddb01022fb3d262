package release

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const checkout = "../../.."

var (
	uses   = regexp.MustCompile(`(?m)^\s*(?:- )?uses: (.*)$`)
	pinned = regexp.MustCompile(`^[\w-]+/[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$`)
	target = regexp.MustCompile(`\bmake ([a-z-]+)`)
)

// Workflows are YAML, call actions by commit with the version beside it, and targets that the Makefile has.
func TestWorkflows(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(checkout, ".github", "workflows", "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	makefile := read(t, filepath.Join(checkout, "Makefile"))
	actions, targets := 0, 0
	for _, file := range files {
		text := read(t, file)
		var workflow struct {
			Jobs map[string]any
		}
		if err := yaml.Unmarshal([]byte(text), &workflow); err != nil || len(workflow.Jobs) == 0 {
			t.Errorf("%s: %d jobs, %v", file, len(workflow.Jobs), err)
		}
		for _, m := range uses.FindAllStringSubmatch(text, -1) {
			if local, ok := strings.CutPrefix(m[1], "./"); ok {
				if _, err := os.Stat(filepath.Join(checkout, local)); err != nil {
					t.Errorf("%s: %v", file, err)
				}
				continue
			}
			actions++
			if !pinned.MatchString(m[1]) {
				t.Errorf("%s: %s: allowed is owner/action@<40 hex digits> # vX.Y.Z", file, m[1])
			}
		}
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			targets++
			if !strings.Contains(makefile, "\n"+m[1]+": ") {
				t.Errorf("%s: make %s: no such target", file, m[1])
			}
		}
	}
	if actions < 4 || targets < 2 {
		t.Errorf("%d actions and %d targets found", actions, targets)
	}
}

// Each Go module is one that dependabot looks at, and each directory that it looks at is there.
func TestDependabot(t *testing.T) {
	var config struct {
		Updates []struct {
			Ecosystem   string `json:"package-ecosystem"`
			Directory   string
			Directories []string
		}
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(checkout, ".github", "dependabot.yml"))), &config); err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, u := range config.Updates {
		for _, dir := range append(u.Directories, u.Directory) {
			if dir == "" {
				continue
			}
			if _, err := os.Stat(filepath.Join(checkout, dir)); err != nil {
				t.Errorf("%s: %v", u.Ecosystem, err)
			}
			if u.Ecosystem == "gomod" {
				listed = append(listed, dir)
			}
		}
	}
	var modules []string
	for _, top := range []string{checkout, filepath.Join(checkout, "hack")} {
		err := fs.WalkDir(os.DirFS(top), ".", func(path string, d fs.DirEntry, err error) error {
			if d != nil && d.IsDir() && strings.Count(path, "/") > 0 {
				return fs.SkipDir
			}
			if err == nil && d.Name() == "go.mod" {
				rel, _ := filepath.Rel(checkout, filepath.Join(top, filepath.Dir(path)))
				modules = append(modules, filepath.Clean("/"+rel))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(modules)
	slices.Sort(listed)
	if modules = slices.Compact(modules); len(modules) < 5 || !slices.Equal(modules, listed) {
		t.Errorf("modules %v, of which dependabot looks at %v", modules, listed)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
