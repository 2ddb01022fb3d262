package ociimage

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// Artifact is a manifest or an index, with the blobs of all that it refers to. The same input gives the same bytes.
type Artifact struct {
	Descriptor v1.Descriptor
	blobs      map[digest.Digest][]byte
}

// Blob is what a manifest refers to.
type Blob struct {
	MediaType   string
	Data        []byte
	Annotations map[string]string
}

// Layer is a layer of an image.
type Layer struct {
	Blob
	DiffID digest.Digest // of the uncompressed archive
	By     string        // what made it, for the image's history
}

// NewLayer compresses a tar archive.
func NewLayer(archive []byte, by string) (Layer, error) {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, err := w.Write(archive)
	if err = errors.Join(err, w.Close()); err != nil {
		return Layer{}, err
	}
	return Layer{Blob: Blob{MediaType: v1.MediaTypeImageLayerGzip, Data: out.Bytes()}, DiffID: digest.FromBytes(archive), By: by}, nil
}

// Image returns the image of some layers for one platform.
func Image(platform v1.Platform, created time.Time, config v1.ImageConfig, layers ...Layer) (Artifact, error) {
	created = created.UTC()
	full := v1.Image{Created: &created, Platform: platform, Config: config, RootFS: v1.RootFS{Type: "layers"}}
	var blobs []Blob
	for _, l := range layers {
		full.RootFS.DiffIDs = append(full.RootFS.DiffIDs, l.DiffID)
		full.History = append(full.History, v1.History{Created: &created, CreatedBy: l.By})
		blobs = append(blobs, l.Blob)
	}
	data, err := json.Marshal(full)
	if err != nil {
		return Artifact{}, err
	}
	a, err := Manifest(Blob{MediaType: v1.MediaTypeImageConfig, Data: data}, nil, blobs...)
	a.Descriptor.Platform = &platform
	return a, err
}

// Manifest returns a manifest: what an image is, or a chart.
func Manifest(config Blob, annotations map[string]string, layers ...Blob) (Artifact, error) {
	a := Artifact{blobs: map[digest.Digest][]byte{}}
	m := v1.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageManifest,
		Config: a.add(config), Annotations: annotations,
	}
	for _, l := range layers {
		m.Layers = append(m.Layers, a.add(l))
	}
	data, err := json.Marshal(m)
	a.Descriptor = a.add(Blob{MediaType: v1.MediaTypeImageManifest, Data: data})
	return a, err
}

// Index returns the index of one image for several platforms.
func Index(images ...Artifact) (Artifact, error) {
	a := Artifact{blobs: map[digest.Digest][]byte{}}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	for _, image := range images {
		index.Manifests = append(index.Manifests, image.Descriptor)
		maps.Copy(a.blobs, image.blobs)
	}
	data, err := json.Marshal(index)
	a.Descriptor = a.add(Blob{MediaType: v1.MediaTypeImageIndex, Data: data})
	return a, err
}

// Named returns the artifact with the name under which it is found in an archive, such as
// docker.io/mizzen/proxy:0.1.0.
func (a Artifact) Named(ref string) Artifact {
	a.Descriptor.Annotations = map[string]string{
		v1.AnnotationRefName: ref,
		// containerd goes by this one.
		"io.containerd.image.name": ref,
	}
	return a
}

// Compressed returns the size of all blobs, as a registry keeps them.
func (a Artifact) Compressed() (size int64) {
	for _, data := range a.blobs {
		size += int64(len(data))
	}
	return size
}

func (a Artifact) add(b Blob) v1.Descriptor {
	d := digest.FromBytes(b.Data)
	a.blobs[d] = b.Data
	return v1.Descriptor{MediaType: b.MediaType, Digest: d, Size: int64(len(b.Data)), Annotations: b.Annotations}
}

// WriteLayout writes an archive of an OCI image layout that holds the artifacts.
func WriteLayout(to io.Writer, artifacts ...Artifact) error {
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	blobs := map[digest.Digest][]byte{}
	for _, a := range artifacts {
		index.Manifests = append(index.Manifests, a.Descriptor)
		maps.Copy(blobs, a.blobs)
	}
	list, err := json.Marshal(index)
	if err != nil {
		return err
	}
	version, err := json.Marshal(v1.ImageLayout{Version: v1.ImageLayoutVersion})
	if err != nil {
		return err
	}
	files := []File{{Name: v1.ImageLayoutFile, Mode: 0o644, Data: version}, {Name: v1.ImageIndexFile, Mode: 0o644, Data: list}}
	for _, d := range slices.Sorted(maps.Keys(blobs)) {
		files = append(files, File{Name: v1.ImageBlobsDir + "/" + d.Algorithm().String() + "/" + d.Encoded(), Mode: 0o644, Data: blobs[d]})
	}
	return WriteTar(to, files...)
}

// WriteTar writes an archive whose bytes depend on the files alone: they belong to root and are from the year 1970,
// so that a file that did not change makes no new layer.
func WriteTar(to io.Writer, files ...File) error {
	w := tar.NewWriter(to)
	for _, f := range files {
		h := tar.Header{
			Name: f.Name, Mode: f.Mode, Size: int64(len(f.Data)), Typeflag: tar.TypeReg, Uid: f.UID, Gid: f.GID,
			ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR,
		}
		if f.Dir {
			h.Name, h.Typeflag = f.Name+"/", tar.TypeDir
		}
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		if _, err := w.Write(f.Data); err != nil {
			return err
		}
	}
	return w.Close()
}
