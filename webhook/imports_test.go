package webhook

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The package comments of config and webhook say what they may import of this module.
func TestImports(t *testing.T) {
	const module = "github.com/mizzen-mesh/mizzen/"
	for dir, allowed := range map[string][]string{
		"../config": nil,
		".":         {"config", "internal/appprobe"},
	} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range file.Imports {
				path, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
				if ours && !slices.Contains(allowed, path) {
					t.Errorf("%s imports %s; allowed: %v", name, path, allowed)
				}
			}
		}
	}
}
