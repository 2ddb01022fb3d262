package ctl

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/mizzen-mesh/mizzen/config"
)

type injectOptions struct {
	files      []string
	meshConfig string
	image      string
	output     string
}

// source is one input, with the name that reports and errors call it.
type source struct {
	name    string
	content []byte
}

// run writes only if everything went well: half an output piped into kubectl would be applied.
func (o *injectOptions) run(stdin io.Reader, stdout, stderr io.Writer) error {
	mesh, err := o.mesh()
	if err != nil {
		return err
	}
	sources, err := o.read(stdin)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	var errs []error
	workloads := 0
	for _, src := range sources {
		for i, doc := range splitDocuments(src.content) {
			result, notes, err := injectDocument(doc, mesh)
			place := fmt.Sprintf("%s: document %d", src.name, i+1)
			for _, note := range notes {
				fmt.Fprintf(stderr, "%s: %s\n", place, note)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", place, err))
			}
			workloads += len(notes)
			appendDocument(&out, result)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	if workloads == 0 {
		fmt.Fprintln(stderr, "no workload found")
	}
	if o.output == "-" {
		_, err := stdout.Write(out.Bytes())
		return err
	}
	return os.WriteFile(o.output, out.Bytes(), 0o644)
}

func (o *injectOptions) mesh() (*config.Mesh, error) {
	mesh := config.Default()
	if o.meshConfig != "" {
		var err error
		if mesh, err = config.Load(o.meshConfig); err != nil {
			return nil, err
		}
	}
	if o.image != "" {
		mesh.Sidecar.Image = o.image
	}
	if mesh.Sidecar.Image == "" {
		return nil, errors.New("no sidecar image: give --image, or --mesh-config with sidecar.image")
	}
	if err := mesh.ValidateForInjection(); err != nil {
		return nil, fmt.Errorf("--image: %w", err) // the file was found valid by Load
	}
	return mesh, nil
}

func (o *injectOptions) read(stdin io.Reader) ([]source, error) {
	var sources []source
	for _, name := range o.files {
		if name == "-" {
			content, err := io.ReadAll(stdin)
			if err != nil {
				return nil, fmt.Errorf("stdin: %w", err)
			}
			sources = append(sources, source{"stdin", content})
			continue
		}
		paths, err := expand(name)
		if err != nil {
			return nil, err
		}
		for _, path := range paths {
			content, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			sources = append(sources, source{path, content})
		}
	}
	return sources, nil
}

// expand gives the manifests of a directory in order of their names, as kubectl does, or the file itself.
func expand(name string) ([]string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{name}, nil
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, entry := range entries {
		if !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(entry.Name())) {
			paths = append(paths, filepath.Join(name, entry.Name()))
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s: no *.yaml, *.yml or *.json in this directory", name)
	}
	return paths, nil
}
