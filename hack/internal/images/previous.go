package images

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
)

// PreviousVersion is the version, and the tag of the images, of what Previous builds.
const PreviousVersion = "previous"

// previousPrograms are what the images of the control plane and of sidecars need.
var previousPrograms = []string{"./cmd/mizzen-controller", "./cmd/mizzen-proxy"}

// previousTargets are the images that Previous builds.
var previousTargets = []string{"controller", "proxy"}

// Previous builds the images of the previous release, from and to which upgrades are tested, and returns their archives. Its source,
// with the chart, is in .build/previous then. The chart names the images. A clone without its history has none.
func (b *Builder) Previous() ([]string, error) {
	changelog, err := os.ReadFile(filepath.Join(b.Root, "CHANGELOG.md"))
	if err != nil {
		return nil, err
	}
	revision := ""
	for _, candidate := range previousRevisions(string(changelog)) {
		if b.isBefore(candidate) {
			revision = candidate
			break
		}
	}
	if revision == "" {
		b.Log.Printf("no release before this one: CHANGELOG.md names none that is in this clone (git fetch --unshallow --tags)")
		return nil, nil
	}
	source := b.Build("previous")
	if err := b.extract(revision, source); err != nil {
		return nil, err
	}
	previous := &Builder{Layout: layout.New(source), Log: b.Log, Tools: b.Tools, Version: PreviousVersion}
	if err := previous.setAppVersion(PreviousVersion); err != nil {
		return nil, err
	}
	if err := previous.Bin(previousPrograms...); err != nil {
		return nil, err
	}
	return previous.Images(previousTargets...)
}

var (
	releaseHeading = regexp.MustCompile(`(?m)^## \[(\d[\w.-]*)\]`)
	testedCommit   = regexp.MustCompile("from commit `([0-9a-f]{40})`")
)

// previousRevisions returns the tags of the releases in a changelog, the last one first, and then the commit that it names.
func previousRevisions(changelog string) []string {
	var out []string
	for _, match := range releaseHeading.FindAllStringSubmatch(changelog, -1) {
		out = append(out, "v"+match[1])
	}
	if match := testedCommit.FindStringSubmatch(changelog); match != nil {
		out = append(out, match[1])
	}
	return out
}

// isBefore reports whether the clone has a revision, and is at another one: a release that is being cut is none before itself.
func (b *Builder) isBefore(revision string) bool {
	commit := func(of string) string {
		git := exec.Command("git", "rev-parse", "--quiet", "--verify", of+"^{commit}")
		git.Dir = b.Root
		out, _ := git.Output() // nothing where there is none
		return string(out)
	}
	at := commit(revision)
	return at != "" && at != commit("HEAD")
}

// extract replaces a directory with the files of a revision. What is built there stays.
func (b *Builder) extract(revision, to string) error {
	var archive, problem bytes.Buffer
	git := exec.Command("git", "archive", revision)
	git.Dir, git.Stdout, git.Stderr = b.Root, &archive, &problem
	if err := git.Run(); err != nil {
		return fmt.Errorf("git archive %s: %w: %s", revision, err, strings.TrimSpace(problem.String()))
	}
	entries, err := os.ReadDir(to)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		if e.Name() != ".build" {
			if err := os.RemoveAll(filepath.Join(to, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	tar := exec.Command("tar", "-x", "-C", to)
	tar.Stdin = &archive
	if out, err := tar.CombinedOutput(); err != nil {
		return fmt.Errorf("unpack %s: %w: %s", revision, err, out)
	}
	return nil
}

func (b *Builder) setAppVersion(version string) error {
	file := filepath.Join(b.Root, "charts", "mizzen", "Chart.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	return os.WriteFile(file, appVersionLine.ReplaceAll(text, []byte(`appVersion: "`+version+`"`)), 0o644)
}
