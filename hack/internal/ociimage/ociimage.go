// Package ociimage writes and reads image archives in the format of `docker
// save`, which containerd and buildah both import, and writes archives of OCI
// image layouts, which releases have.
package ociimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
)

type manifest []struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// FromBinary writes the image of one static program, which is its entry point.
func FromBinary(archive, ref, binary string) error {
	data, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	name := filepath.Base(binary)
	return FromFiles(archive, ref, []File{{Name: name, Mode: 0o755, Data: data}}, map[string]any{"Entrypoint": []string{"/" + name}, "User": "65535:65535"})
}

// FromFiles writes the image of some files and nothing else. The config is that
// of FromLayer.
func FromFiles(archive, ref string, files []File, config map[string]any) error {
	var layer bytes.Buffer
	if err := WriteTar(&layer, files...); err != nil {
		return err
	}
	return FromLayer(archive, ref, layer.Bytes(), config)
}

// FromLayer writes an image of one layer, an uncompressed tar archive. The
// config is that of the image specification: Entrypoint, User …
func FromLayer(archive, ref string, layer []byte, config map[string]any) error {
	diff := sha256.Sum256(layer)
	full, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(diff[:])}},
		// buildah builds on no image whose history has not an entry a layer.
		"history": []map[string]any{{"created_by": "mizzen hack/internal/ociimage"}},
	})
	if err != nil {
		return err
	}
	id := sha256.Sum256(full)
	m := manifest{{Config: hex.EncodeToString(id[:]) + ".json", RepoTags: []string{ref}, Layers: []string{"layer.tar"}}}
	index, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := os.Create(archive)
	if err != nil {
		return err
	}
	err = WriteTar(f,
		File{Name: m[0].Config, Mode: 0o644, Data: full},
		File{Name: "layer.tar", Mode: 0o644, Data: layer},
		File{Name: "manifest.json", Mode: 0o644, Data: index})
	return errors.Join(err, f.Close())
}

// File is one file of a tar archive.
type File struct {
	Name     string // path without a leading slash
	Mode     int64
	Data     []byte
	Dir      bool // a directory, without data
	UID, GID int
}

// Info is what an archive holds.
type Info struct {
	ID     string   // hash of the configuration
	Refs   []string // names with tags
	Layers []string // paths in the archive
}

// Inspect reads an archive's manifest.
func Inspect(archive string) (Info, error) {
	var info Info
	err := EachFile(archive, func(name string, r io.Reader) error {
		if name != "manifest.json" {
			return nil
		}
		var m manifest
		if err := json.NewDecoder(r).Decode(&m); err != nil {
			return err
		}
		for _, image := range m {
			info.ID += image.Config
			info.Refs = append(info.Refs, image.RepoTags...)
			info.Layers = append(info.Layers, image.Layers...)
		}
		return nil
	})
	if err == nil && info.ID == "" {
		err = fmt.Errorf("%s is no image archive: it has no manifest.json", archive)
	}
	return info, err
}

// EachFile calls f for every regular file of a tar archive.
func EachFile(archive string, f func(name string, r io.Reader) error) error {
	file, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer file.Close()
	for r := tar.NewReader(file); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", archive, err)
		}
		if h.Typeflag == tar.TypeReg {
			if err := f(h.Name, r); err != nil {
				return fmt.Errorf("%s: %s: %w", archive, h.Name, err)
			}
		}
	}
}
