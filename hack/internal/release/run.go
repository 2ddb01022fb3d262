package release

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
	"github.com/mizzen-mesh/mizzen/hack/internal/progress"
	"github.com/mizzen-mesh/mizzen/hack/internal/tools"
)

// Options say what is released.
type Options struct {
	Root       string
	Tag        string // VERSION
	AllowDirty bool
	Epoch      string // SOURCE_DATE_EPOCH, "" for the commit's
	Key        string // MIZZEN_SIGNING_KEY, "" for none
	Builder    string
	Run        string
	// Check builds a second time: "" does not, "cached" with Go's build cache, "fresh" without.
	Check string
}

// Run builds a release and returns the directory that has it.
func Run(o Options, log *progress.Log) (string, error) {
	version, err := ParseVersion(o.Tag)
	if err != nil {
		return "", err
	}
	source, err := ReadSource(o.Root, o.Tag, o.Epoch, o.AllowDirty)
	if err != nil {
		return "", err
	}
	b := Build{Source: source, Version: version, Builder: o.Builder, Run: o.Run, Log: log}
	if o.Key != "" {
		if b.Key, err = ParseKey(o.Key); err != nil {
			return "", err
		}
	}
	builder, err := tools.NewBuilder(filepath.Join(o.Root, "hack"), log)
	if err != nil {
		return "", err
	}
	goVersion, err := proc.Run("go", "env", "GOVERSION")
	if err != nil {
		return "", err
	}
	b.GoVer, _, _ = strings.Cut(strings.TrimSpace(goVersion), " ") // experiments follow
	if b.Helm, err = builder.Helm(); err != nil {
		return "", err
	}
	if b.Inputs, err = Fetch(builder); err != nil {
		return "", err
	}
	dir := filepath.Join(o.Root, ".build", "release", o.Tag)
	if err := b.into(dir); err != nil {
		return "", err
	}
	if o.Check == "" {
		return dir, nil
	}
	return dir, b.again(dir, o.Check == "fresh")
}

// into builds into a directory, which is there only if all of it is.
func (b Build) into(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".tmp-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	out, work := filepath.Join(tmp, "out"), filepath.Join(tmp, "work")
	if err := errors.Join(os.Mkdir(out, 0o755), os.Mkdir(work, 0o755)); err != nil {
		return err
	}
	if err := b.Into(out, work); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), os.Rename(out, dir))
}

// again builds a copy of the source at another path and compares each file.
func (b Build) again(dir string, fresh bool) error {
	b.Log.Printf("the same again, from a copy of the source at another path")
	tmp, err := os.MkdirTemp("", "mizzen-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	root, second := filepath.Join(tmp, "source"), filepath.Join(tmp, "release")
	if err := b.Copy("", root); err != nil {
		return err
	}
	b.Root = root
	if fresh {
		b.Env = append(b.Env, "GOCACHE="+filepath.Join(tmp, "cache"))
	}
	if err := b.into(second); err != nil {
		return err
	}
	differ, err := Compare(dir, second)
	if err != nil {
		return err
	}
	if len(differ) > 0 {
		return fmt.Errorf("not reproducible: two builds of commit %.12s differ in %s", b.Commit, strings.Join(differ, ", "))
	}
	b.Log.Printf("both builds are the same, byte by byte")
	return nil
}

// Builder returns who builds and in which run, as CI says it in the environment; by hand it is nobody that a reader of
// the statement could ask.
func Builder(env func(string) string) (builder, run string) {
	if env("GITHUB_ACTIONS") != "true" {
		return cmp.Or(env("MIZZEN_BUILDER"), repositoryURL+"/blob/main/docs/release.md#by-hand"), ""
	}
	server := env("GITHUB_SERVER_URL")
	return server + "/" + env("GITHUB_WORKFLOW_REF"),
		server + "/" + env("GITHUB_REPOSITORY") + "/actions/runs/" + env("GITHUB_RUN_ID") + "/attempts/" + env("GITHUB_RUN_ATTEMPT")
}
