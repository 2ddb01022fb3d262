// Package images builds this repository's binaries and, from its Dockerfiles,
// its images, with buildah and without a registry.
package images

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
	"github.com/mizzen-mesh/mizzen/hack/internal/progress"
	"github.com/mizzen-mesh/mizzen/hack/internal/supervisor"
	"github.com/mizzen-mesh/mizzen/hack/internal/tools"
)

// Image is one image to build. Its name is that of its target.
type Image struct {
	Ref        string
	Dockerfile string
	Target     string
	Binaries   []string // files in .build/bin that the target copies
	Limit      int64    // of the compressed size, in bytes; 0: none
}

// ofChart stands for the appVersion of the chart, which names the images of Mizzen by it: `helm install` needs no
// values then.
const ofChart = "CHART"

// All lists the images of this repository. One whose Dockerfile does not exist
// is skipped.
var All = []Image{
	{Ref: "mizzen/controller:" + ofChart, Dockerfile: "Dockerfile", Target: "controller", Binaries: []string{"mizzen-controller"}},
	{Ref: "mizzen/cni:" + ofChart, Dockerfile: "Dockerfile", Target: "cni", Binaries: []string{"mizzen-cni", "mizzen-cni-node"}},
	{Ref: "mizzen/proxy:" + ofChart, Dockerfile: "Dockerfile", Target: "proxy", Binaries: []string{"mizzen-proxy", "envoy"}, Limit: 60e6},
	{
		Ref: "mizzen-examples/native-tools:dev", Dockerfile: "examples/grpc-balance/Dockerfile", Target: "native-tools",
		Binaries: []string{"native-tools"},
	},
	{
		Ref: "mizzen-examples/native-tools-2:dev", Dockerfile: "examples/grpc-balance/Dockerfile", Target: "native-tools-2",
		Binaries: []string{"native-tools-2"},
	},
	{Ref: "mizzen-test/app:dev", Dockerfile: "test/e2e/Dockerfile", Target: "testapp", Binaries: []string{"testapp"}},
}

// Programs are the packages of Mizzen's own binaries.
var Programs = []string{"./cmd/mizzen-controller", "./cmd/mizzen-proxy", "./cmd/mizzenctl", "./cmd/mizzen-cni", "./cmd/mizzen-cni-node"}

// examples are the packages of further binaries; those that exist are built.
var examples = []string{
	"./examples/grpc-balance/native-tools", "./examples/grpc-balance/native-tools-2", "./test/e2e/testapp",
}

// Builder builds binaries and images of one checkout.
type Builder struct {
	layout.Layout
	Log     *progress.Log
	Tools   *tools.Builder
	Version string // put into binaries and image labels
}

// Bin builds the Go binaries, of these packages or of all, and puts Envoy beside them. A package that does
// not build does not stop the others, but is an error at the end.
func (b *Builder) Bin(only ...string) error {
	if err := os.MkdirAll(b.Build("bin"), 0o755); err != nil {
		return err
	}
	began := time.Now()
	var present []string
	all := append(slices.Clone(Programs), examples...)
	if len(only) > 0 {
		all = only
	}
	for _, p := range all {
		if files, _ := filepath.Glob(filepath.Join(b.Root, p, "*.go")); len(files) > 0 {
			present = append(present, p)
		}
	}
	// One call for all: they share most of their dependencies.
	cmd := exec.Command("go", append(BuildArgs(b.Version, b.Build("bin")), present...)...)
	cmd.Dir = b.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build binaries: %w\n%s", err, out)
	}
	b.Log.Printf("%d binaries built in %.1f s, in %s", len(present), time.Since(began).Seconds(), b.Build("bin"))
	return b.envoy()
}

// BuildArgs are the arguments of go that build binaries of a version into a directory. Packages follow.
func BuildArgs(version, dir string) []string {
	return []string{"build", "-trimpath", "-buildvcs=false",
		"-tags=grpcnotrace", // without grpc's tracing pages the sidecar agent is a third smaller
		"-ldflags", "-s -w -X github.com/mizzen-mesh/mizzen/internal/version.Version=" + version,
		"-o", dir + string(filepath.Separator)}
}

// envoy puts the Envoy binary where the Dockerfile finds it. A build context
// cannot hold a link to the outside.
func (b *Builder) envoy() error {
	dir, err := b.Tools.Envoy()
	if err != nil {
		return err
	}
	source, target := filepath.Join(dir, "envoy"), b.Build("bin", "envoy")
	from, err := os.Stat(source)
	if err != nil {
		return err
	}
	if to, err := os.Stat(target); err == nil && to.Size() == from.Size() && to.ModTime().Equal(from.ModTime()) {
		return nil
	}
	tmp := target + ".tmp"
	if _, err := proc.Run("cp", "--preserve=mode,timestamps", source, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, target)
}

// record is kept beside an image's archive.
type record struct {
	Inputs     string // hash
	ID         string
	Size       int64 // of the layers, in bytes
	Compressed int64 // of the layers with gzip, as a registry keeps them
}

// Images builds the images of the given targets (all, if there are none) that
// are out of date, and returns the archives of all of them.
func (b *Builder) Images(only ...string) ([]string, error) {
	for _, name := range only {
		if !slices.ContainsFunc(All, func(i Image) bool { return i.Target == name }) {
			return nil, fmt.Errorf("no image %q", name)
		}
	}
	if err := b.Tools.Install(tools.ImageNeeds...); err != nil {
		return nil, err
	}
	unlock, err := proc.Lock(b.Build("images", ".lock"), func() { b.Log.Printf("waiting for another image build of this checkout") })
	if err != nil {
		return nil, err
	}
	defer unlock()
	base, err := b.Tools.Base()
	if err != nil {
		return nil, err
	}
	version, err := b.appVersion()
	if err != nil {
		return nil, err
	}
	var archives []string
	for _, image := range All {
		image.Ref = strings.Replace(image.Ref, ":"+ofChart, ":"+version, 1)
		if len(only) > 0 && !slices.Contains(only, image.Target) {
			continue
		}
		if _, err := os.Stat(filepath.Join(b.Root, image.Dockerfile)); err != nil {
			b.Log.Printf("%s: skipped, there is no %s", image.Ref, image.Dockerfile)
			continue
		}
		archive, err := b.image(image, base)
		if err != nil {
			return nil, fmt.Errorf("image %s: %w", image.Ref, err)
		}
		archives = append(archives, archive)
	}
	return archives, nil
}

var appVersionLine = regexp.MustCompile(`(?m)^appVersion: "?([\w.-]+)"?$`)

func (b *Builder) appVersion() (string, error) {
	file := filepath.Join(b.Root, "charts", "mizzen", "Chart.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	match := appVersionLine.FindSubmatch(text)
	if match == nil {
		return "", fmt.Errorf("%s: no appVersion", file)
	}
	return string(match[1]), nil
}

// image builds one image, if what goes into it has changed.
func (b *Builder) image(image Image, base string) (string, error) {
	archive, recordFile := b.Build("images", image.Target+".tar"), b.Build("images", image.Target+".json")
	inputs, err := b.inputs(image, base)
	if err != nil {
		return "", err
	}
	now, err := supervisor.ReadJSON[record](recordFile)
	if _, serr := os.Stat(archive); err == nil && serr == nil && now.Inputs == inputs {
		b.Log.Printf("%s: up to date, %s", image.Ref, now)
		return archive, nil
	}
	began := time.Now()
	if err := b.buildah(image, base, archive); err != nil {
		return "", err
	}
	info, err := ociimage.Inspect(archive)
	if err != nil {
		return "", err
	}
	now = record{Inputs: inputs, ID: info.ID}
	if now.Size, now.Compressed, err = b.sizes(archive, info.Layers); err != nil {
		return "", err
	}
	if image.Limit > 0 && now.Compressed > image.Limit {
		return "", fmt.Errorf("%s; the limit is %.0f MB compressed", now, float64(image.Limit)/1e6)
	}
	b.Log.Printf("%s: built in %.1f s, %s", image.Ref, time.Since(began).Seconds(), now)
	return archive, supervisor.WriteJSON(recordFile, now)
}

func (r record) String() string {
	return fmt.Sprintf("%.1f MB, compressed %.1f MB", float64(r.Size)/1e6, float64(r.Compressed)/1e6)
}

// inputs hashes all that an image is made of.
func (b *Builder) inputs(image Image, base string) (string, error) {
	h := sha256.New()
	fmt.Fprintf(h, "%+v %s %s\n", image, base, b.Version) // base's path has a content hash
	files := []string{filepath.Join(b.Root, image.Dockerfile)}
	for _, binary := range image.Binaries {
		files = append(files, b.Build("bin", binary))
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return "", errors.Join(err, errors.New("`make bin` builds what images are made of"))
		}
		fmt.Fprintf(h, "\n%s\n", filepath.Base(file))
		_, err = io.Copy(h, f)
		f.Close()
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Names lists the names that Images takes.
func Names() string {
	var names []string
	for _, i := range All {
		names = append(names, i.Target)
	}
	return strings.Join(names, ", ")
}
