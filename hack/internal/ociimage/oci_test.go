package ociimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

func testImage(t *testing.T, arch, content string) Artifact {
	t.Helper()
	var archive bytes.Buffer
	if err := WriteTar(&archive, File{Name: "run/x", Mode: 0o755, Dir: true, UID: 1337, GID: 1337}, File{Name: "run/x/f", Mode: 0o644, Data: []byte(content)}); err != nil {
		t.Fatal(err)
	}
	layer, err := NewLayer(archive.Bytes(), "test")
	if err != nil {
		t.Fatal(err)
	}
	image, err := Image(v1.Platform{OS: "linux", Architecture: arch}, time.Unix(1e9, 0), v1.ImageConfig{User: "1:1"}, layer)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

func testLayout(t *testing.T) []byte {
	t.Helper()
	amd64, arm64 := testImage(t, "amd64", "a"), testImage(t, "arm64", "b")
	index, err := Index(amd64, arm64)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := WriteLayout(&out, index.Named("docker.io/mizzen/x:1"), amd64.Named("docker.io/mizzen/y:1")); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// Another implementation reads the archive and finds each digest, size and diff ID right.
func TestWriteLayoutIsValid(t *testing.T) {
	dir := t.TempDir()
	untar(t, dir, testLayout(t))
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	m, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Manifests) != 2 || m.Manifests[0].Annotations["io.containerd.image.name"] != "docker.io/mizzen/x:1" ||
		m.Manifests[1].Annotations[v1.AnnotationRefName] != "docker.io/mizzen/y:1" || m.Manifests[1].Platform.Architecture != "amd64" {
		t.Errorf("index %+v", m)
	}
	inner, err := index.ImageIndex(m.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	images, err := inner.IndexManifest()
	if err != nil || len(images.Manifests) != 2 || images.Manifests[1].Platform.Architecture != "arm64" {
		t.Errorf("platforms %+v, error %v", images, err)
	}
}

func TestWriteLayoutIsReproducible(t *testing.T) {
	if first := testLayout(t); !bytes.Equal(first, testLayout(t)) {
		t.Error("the same images give two archives")
	}
}

func untar(t *testing.T, dir string, archive []byte) {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(archive)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, h.Name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}
