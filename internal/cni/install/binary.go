// Package install installs the CNI plugin on a node: the binary in the runtime's directory, and the entry in the
// configuration that the runtime reads, for as long as the process lives.
//
// It may import internal/cni/conflist, which edits the configuration.
package install

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mizzen-mesh/mizzen/internal/cni/conflist"
)

// Binary copies the plugin into dir, in one step, because the runtime may start it at any time. The plugin stays there
// for good: a runtime may remember the configuration of a pod, and cannot remove the pod without the plugins in it.
func Binary(source, dir string) error {
	data, err := os.ReadFile(source)
	if err != nil {
		return err
	}
	target := filepath.Join(dir, conflist.Type)
	if old, err := os.ReadFile(target); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return replace(target, data, 0o755)
}

// replace writes a file in one step, with the mode of the existing file, or else with mode.
func replace(path string, data []byte, mode fs.FileMode) (err error) {
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
	}
	// No runtime reads a file with this ending.
	tmp, err := os.CreateTemp(filepath.Dir(path), ".mizzen-cni-*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
