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
// with the chart, is in .build/previous then. The chart names the images.
func (b *Builder) Previous() ([]string, error) {
	changelog, err := os.ReadFile(filepath.Join(b.Root, "CHANGELOG.md"))
	if err != nil {
		return nil, err
	}
	revision, err := previousRevision(string(changelog))
	if err != nil {
		return nil, err
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

// previousRevision returns the tag of the last release in a changelog or, before the first one, the commit that it names.
func previousRevision(changelog string) (string, error) {
	if match := releaseHeading.FindStringSubmatch(changelog); match != nil {
		return "v" + match[1], nil
	}
	if match := testedCommit.FindStringSubmatch(changelog); match != nil {
		return match[1], nil
	}
	return "", errors.New("CHANGELOG.md: neither a release nor a commit from which upgrades are tested")
}

// extract replaces a directory with the files of a revision. What is built there stays.
func (b *Builder) extract(revision, to string) error {
	var archive, problem bytes.Buffer
	git := exec.Command("git", "archive", revision)
	git.Dir, git.Stdout, git.Stderr = b.Root, &archive, &problem
	if err := git.Run(); err != nil {
		return fmt.Errorf("git archive %s: %w: %s (a clone without history? git fetch --unshallow --tags)", revision, err, strings.TrimSpace(problem.String()))
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
