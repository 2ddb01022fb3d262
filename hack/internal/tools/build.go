// Package tools builds and fetches the programs that the embedded cluster is
// made of into a cache that all checkouts on the machine share.
package tools

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"

	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
	"github.com/mizzen-mesh/mizzen/hack/internal/progress"
)

// CacheDir is where built programs are kept.
func CacheDir() (string, error) {
	if dir := os.Getenv("MIZZEN_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	base, err := os.UserCacheDir() // XDG_CACHE_HOME or ~/.cache
	if err != nil {
		return "", err
	}
	return filepath.Join(base, "mizzen"), nil
}

// Builder builds modules of one checkout.
type Builder struct {
	Hack      string // the checkout's hack directory
	Cache     string
	Toolchain string // Go version and platform
	Log       *progress.Log
}

// NewBuilder asks Go for its version, which is part of every cache key.
func NewBuilder(hack string, log *progress.Log) (*Builder, error) {
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	version, err := proc.Run("go", "env", "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return nil, fmt.Errorf("go is needed to build the tools: %w", err)
	}
	return &Builder{Hack: hack, Cache: cache, Toolchain: strings.Join(strings.Fields(version), " "), Log: log}, nil
}

// Build returns the directory that holds the module's binaries, building them
// if the cache has none for exactly these sources, flags and toolchain.
func (b *Builder) Build(m Module) (string, error) {
	key, err := moduleKey(os.DirFS(filepath.Join(b.Hack, m.Name)), m, b.Toolchain)
	if err != nil {
		return "", fmt.Errorf("build %s: %w", m.Name, err)
	}
	return b.cached(m.Name, key, func(dir, logFile string) error {
		if err := b.Install(m.Needs...); err != nil {
			return err
		}
		return b.compile(m, dir, logFile)
	})
}

// cached returns the cache directory of name and key. If there is none, make
// fills a temporary directory that is then renamed, so that a killed build
// leaves no half-filled entry. One process makes an entry at a time.
func (b *Builder) cached(name, key string, make func(dir, logFile string) error) (string, error) {
	final := filepath.Join(b.Cache, name+"-"+key)
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	unlock, err := proc.Lock(filepath.Join(b.Cache, name+".lock"), func() {
		b.Log.Printf("%s: waiting for another process that builds it", name)
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	// Under the lock, older temporary directories belong to nobody.
	tmp := filepath.Join(b.Cache, ".tmp-"+name)
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o755)); err != nil {
		return "", err
	}
	logFile := filepath.Join(b.Cache, name+".log")
	if err := b.Log.Step("building "+name, func() error { return make(tmp, logFile) }); err != nil {
		return "", fmt.Errorf("build %s: %w\nlog: %s\n%s", name, err, logFile, progress.Tail(logFile, 15))
	}
	return final, os.Rename(tmp, final)
}

func (b *Builder) compile(m Module, dir, logFile string) error {
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command("go", buildArgs(m, dir)...)
	cmd.Dir = filepath.Join(b.Hack, m.Name)
	// GOWORK: a workspace of the user's must not change versions. GOFLAGS: nor
	// may flags of theirs, such as -mod=mod.
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=", "CGO_ENABLED="+map[bool]string{true: "1", false: "0"}[m.CGO])
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Run(); err != nil {
		return err
	}
	for link, target := range m.Links {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			return err
		}
	}
	return nil
}

func buildArgs(m Module, dir string) []string {
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags", strings.TrimSpace("-s -w " + m.LDFlags)}
	if m.Tags != "" {
		args = append(args, "-tags", m.Tags)
	}
	return append(append(args, "-o", dir+string(filepath.Separator)), m.Packages...)
}

// moduleKey hashes what the binaries depend on: the module's files, which pin
// every dependency by content, the flags and the toolchain.
func moduleKey(dir fs.FS, m Module, toolchain string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%s\n%q\n%v\n", toolchain, buildArgs(m, ""), m.CGO)
	links := make([]string, 0, len(m.Links))
	for l, t := range m.Links {
		links = append(links, l+"="+t)
	}
	sort.Strings(links)
	fmt.Fprintln(h, links)
	err := fs.WalkDir(dir, ".", func(path string, d fs.DirEntry, err error) error {
		ext := filepath.Ext(path)
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") || ext != ".go" && ext != ".mod" && ext != ".sum" {
			return err
		}
		f, err := dir.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		fmt.Fprintf(h, "\n%s\n", path)
		_, err = io.Copy(h, f)
		return err
	})
	return hex.EncodeToString(h.Sum(nil))[:16], err
}
