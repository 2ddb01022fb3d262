package tools

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
)

// ProgramsImage is the name of the image with the real programs of the end-to-end tests.
const ProgramsImage = "mizzen-test/programs:dev"

// programsNeeds are what hack/programs/build.sh calls.
var programsNeeds = []Need{{Command: "npm", Package: "npm"}, {Command: "mvn", Package: "maven"}}

// Programs returns the archive of ProgramsImage: servers and clients as Debian, Maven, npm and PyPI publish them. What
// Debian has is of the machine's own release; all else is pinned in hack/programs.
func (b *Builder) Programs() (string, error) {
	here := filepath.Join(b.Hack, "programs")
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("image of real programs: it is made from Debian packages: %w", err)
	}
	sum := sha256.New()
	sum.Write(release)
	if err := fs.WalkDir(os.DirFS(here), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(here, path))
		fmt.Fprintf(sum, "%s %d\n%s", path, len(data), data)
		return err
	}); err != nil {
		return "", err
	}
	dir, err := b.cached("programs", hex.EncodeToString(sum.Sum(nil))[:16], func(dir, logFile string) error {
		return b.programs(here, filepath.Join(dir, "programs.tar"), logFile)
	})
	return filepath.Join(dir, "programs.tar"), err
}

func (b *Builder) programs(here, archive, logFile string) error {
	python, err := b.python()
	if err != nil {
		return err
	}
	if err := b.Install(programsNeeds...); err != nil {
		return err
	}
	work, err := os.MkdirTemp(b.Cache, ".tmp-programs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	run := func() ([]byte, error) {
		if err := errors.Join(os.RemoveAll(work), os.Mkdir(work, 0o755)); err != nil {
			return nil, err
		}
		cmd := exec.Command("sh", filepath.Join(here, "build.sh"), here, python)
		cmd.Dir = work
		return cmd.CombinedOutput()
	}
	out, err := run()
	if err != nil { // a machine that never ran it, or lists older than the archive
		update, _ := proc.Run("apt-get", "-q", "update")
		out, err = run()
		out = append([]byte(update), out...)
	}
	if err = errors.Join(err, os.WriteFile(logFile, out, 0o644)); err != nil {
		return err
	}
	layer, err := os.ReadFile(filepath.Join(work, "layer.tar"))
	if err != nil {
		return err
	}
	return ociimage.FromLayer(archive, "docker.io/"+ProgramsImage, layer, map[string]any{"Env": []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH=/opt/python", "NODE_PATH=/opt/node/node_modules"}})
}
