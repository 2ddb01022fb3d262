package release

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mizzen-mesh/mizzen/hack/internal/dockerfile"
	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
)

// named is an artifact and the name that others call it by.
type named struct {
	ref string
	ociimage.Artifact
}

// binDir is where the Dockerfile finds binaries.
const binDir = ".build/bin/"

// registry is what Kubernetes means by a name without a registry, such as the chart's.
const registry = "docker.io/"

// images builds the images that the Dockerfile describes, for one platform.
func (b Build) images(bin, arch string) ([]named, error) {
	text, err := os.ReadFile(filepath.Join(b.Root, "Dockerfile"))
	if err != nil {
		return nil, err
	}
	stages, err := dockerfile.Parse(text, map[string]string{"VERSION": b.Version})
	if err != nil {
		return nil, fmt.Errorf("Dockerfile: %w", err)
	}
	find := func(name string) string {
		switch program, ok := strings.CutPrefix(name, binDir); {
		case ok && program == "envoy":
			return b.Inputs[arch].Envoy
		case ok:
			return filepath.Join(bin, program)
		default:
			return filepath.Join(b.Root, name)
		}
	}
	var all []named
	for _, stage := range stages {
		stage.Labels[v1.AnnotationRevision] = b.Commit
		image, err := b.image(stage, arch, find)
		if err != nil {
			return nil, fmt.Errorf("image %s for linux/%s: %w", stage.Name, arch, err)
		}
		b.Log.Printf("image %s for linux/%s: %.1f MB compressed", stage.Name, arch, float64(image.Compressed())/1e6)
		all = append(all, named{registry + "mizzen/" + stage.Name + ":" + b.Version, image})
	}
	return all, nil
}

func (b Build) image(stage dockerfile.Stage, arch string, find func(string) string) (ociimage.Artifact, error) {
	var layers []ociimage.Layer
	if stage.Base != "scratch" {
		debian := b.Inputs[arch].Debian
		by := debian.Release
		for _, p := range debian.Packages {
			by += " " + p.Name + "=" + p.Version
		}
		layer, err := ociimage.NewLayer(debian.Layer, by)
		if err != nil {
			return ociimage.Artifact{}, err
		}
		layers = append(layers, layer)
	}
	// A layer an instruction, as of other builders: Envoy's stays the same when only the agent changes.
	for _, c := range stage.Copies {
		files, err := copied(c, find)
		if err != nil {
			return ociimage.Artifact{}, err
		}
		var archive bytes.Buffer
		if err := ociimage.WriteTar(&archive, files...); err != nil {
			return ociimage.Artifact{}, err
		}
		layer, err := ociimage.NewLayer(archive.Bytes(), "COPY "+c.From+" "+c.To)
		if err != nil {
			return ociimage.Artifact{}, err
		}
		layers = append(layers, layer)
	}
	return ociimage.Image(v1.Platform{OS: "linux", Architecture: arch}, b.Time,
		v1.ImageConfig{User: stage.User, Entrypoint: stage.Entrypoint, Labels: stage.Labels}, layers...)
}

// copied returns what a COPY puts into the image: a file under its new name, or a directory with what is in it.
func copied(c dockerfile.Copy, find func(string) string) ([]ociimage.File, error) {
	uid, gid, err := owner(c.Owner)
	if err != nil {
		return nil, err
	}
	var files []ociimage.File
	root, to := find(c.From), strings.TrimPrefix(path.Clean(c.To), "/")
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err1 := filepath.Rel(root, file)
		st, err2 := os.Stat(file) // Envoy may be a link into a cache
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		f := ociimage.File{Name: path.Join(to, filepath.ToSlash(rel)), Mode: 0o644, Dir: st.IsDir(), UID: uid, GID: gid}
		// What the umask of a checkout says does not matter.
		if st.Mode()&0o111 != 0 {
			f.Mode = 0o755
		}
		if !f.Dir {
			f.Data, err = os.ReadFile(file)
		}
		files = append(files, f)
		return err
	})
	return files, err
}

func owner(s string) (uid, gid int, err error) {
	if s == "" {
		return 0, 0, nil
	}
	user, group, _ := strings.Cut(s, ":")
	uid, err1 := strconv.Atoi(user)
	gid, err2 := strconv.Atoi(group)
	if errors.Join(err1, err2) != nil {
		return 0, 0, fmt.Errorf("COPY --chown=%s: allowed is UID:GID in digits", s)
	}
	return uid, gid, nil
}

// multiPlatform joins the images of the same name.
func multiPlatform(platforms map[string][]named) ([]named, error) {
	var all []named
	for i, first := range platforms[Architectures[0]] {
		var same []ociimage.Artifact
		for _, arch := range Architectures {
			same = append(same, platforms[arch][i].Artifact)
		}
		index, err := ociimage.Index(same...)
		if err != nil {
			return nil, err
		}
		all = append(all, named{first.ref, index})
	}
	return all, nil
}

// writeImages writes one archive of some images.
func writeImages(file string, all []named) error {
	var artifacts []ociimage.Artifact
	for _, n := range all {
		artifacts = append(artifacts, n.Named(n.ref))
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(ociimage.WriteLayout(f, artifacts...), f.Close())
}
