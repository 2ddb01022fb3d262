package tools

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/mizzen-mesh/mizzen/hack/internal/progress"
)

func TestModuleKey(t *testing.T) {
	module := Module{Name: "x", Packages: []string{"."}, Tags: "seccomp", Links: map[string]string{"b": "x", "a": "x"}}
	files := func(change map[string]string) fstest.MapFS {
		m := fstest.MapFS{"go.mod": {Data: []byte("module x")}, "main.go": {Data: []byte("package main")}}
		for name, data := range change {
			m[name] = &fstest.MapFile{Data: []byte(data)}
		}
		return m
	}
	key := func(change map[string]string, m Module, toolchain string) string {
		k, err := moduleKey(files(change), m, toolchain)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	base := key(nil, module, "go1 linux amd64")
	for range 20 { // map order must not matter
		if key(nil, module, "go1 linux amd64") != base {
			t.Fatal("the key is not stable")
		}
	}
	if key(map[string]string{"main_test.go": "package main", "README.md": "x"}, module, "go1 linux amd64") != base {
		t.Error("files that are not built change the key")
	}
	other := module
	other.Tags = ""
	for what, k := range map[string]string{
		"go.sum":    key(map[string]string{"go.sum": "y"}, module, "go1 linux amd64"),
		"main.go":   key(map[string]string{"main.go": "package main // y"}, module, "go1 linux amd64"),
		"tags":      key(nil, other, "go1 linux amd64"),
		"toolchain": key(nil, module, "go2 linux amd64"),
	} {
		if k == base {
			t.Errorf("a change of %s keeps the key", what)
		}
	}
}

func TestCachedLeavesNothingOfAFailedBuild(t *testing.T) {
	b := &Builder{Cache: t.TempDir(), Log: progress.New(os.Stderr)}
	_, err := b.cached("x", "1", func(dir, _ string) error { return errors.New("boom") })
	if err == nil {
		t.Fatal("no error")
	}
	builds := 0
	for range 2 {
		dir, err := b.cached("x", "1", func(dir, _ string) error {
			builds++
			return os.WriteFile(filepath.Join(dir, "x"), nil, 0o755)
		})
		if err != nil || dir != filepath.Join(b.Cache, "x-1") {
			t.Fatal(dir, err)
		}
	}
	if builds != 1 {
		t.Errorf("built %d times", builds)
	}
}
