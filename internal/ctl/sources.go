package ctl

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// source is one input, with its name for reports and errors.
type source struct {
	name    string
	content []byte
}

// readSources reads files, the manifests of directories, and "-" for stdin.
func readSources(files []string, stdin io.Reader) ([]source, error) {
	var sources []source
	for _, name := range files {
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

// expand returns the manifests of a directory in the order of their names, as kubectl does, or the file itself.
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
