package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/mizzen-mesh/mizzen/internal/cni/conflist"
)

// replacedSuffix marks a single plugin's configuration that was replaced by a list. No runtime reads it.
const replacedSuffix = ".mizzen-cni"

// resync is the interval at which the directory is checked without any notification.
const resync = 30 * time.Second

// Config is the directory from which the node's runtime reads its CNI configuration.
type Config struct {
	Dir   string
	Entry conflist.Entry
	Log   *slog.Logger

	mu    sync.Mutex
	err   error
	known map[string]string // ignored files, and the reasons
}

// Watch keeps the entry in the file that the runtime reads, until ctx ends.
func (c *Config) Watch(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	if err := watcher.Add(c.Dir); err != nil {
		return fmt.Errorf("watch %s: %w", c.Dir, err)
	}
	tick := time.NewTicker(resync)
	defer tick.Stop()
	for {
		c.note(c.Ensure())
		select {
		case <-ctx.Done():
			return nil
		case <-watcher.Events:
		case err := <-watcher.Errors:
			c.Log.Warn("watch the CNI configuration", "dir", c.Dir, "error", err)
		case <-tick.C:
		}
	}
}

// Err says why the entry is not in the file that the runtime reads; nil if it is.
func (c *Config) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *Config) note(err error) {
	c.mu.Lock()
	before := c.err
	c.err = err
	c.mu.Unlock()
	if err != nil && (before == nil || before.Error() != err.Error()) {
		c.Log.Error("CNI configuration", "error", err)
	}
}

// Ensure adds the entry to the file that the runtime reads, which is the first one, and removes it from all others. A
// second call changes nothing.
func (c *Config) Ensure() error {
	files, err := c.files()
	if err != nil {
		return err
	}
	done := false
	var errs []error
	for _, file := range files {
		change := c.with
		if done {
			change = c.without
		}
		switch used, err := change(file); {
		case err != nil:
			errs = append(errs, err)
		case used:
			done = true
		}
	}
	if !done {
		errs = append(errs, fmt.Errorf("%s: no usable CNI configuration; want one with the plugin that connects pods; "+
			"is this the directory of the node's container runtime (cni.confDir)?", c.Dir))
	}
	return errors.Join(errs...)
}

// Remove removes the entry from all files, and restores replaced files.
func (c *Config) Remove() error {
	files, err := c.files()
	if err != nil {
		return err
	}
	replaced, err := filepath.Glob(filepath.Join(c.Dir, "*"+replacedSuffix))
	errs := []error{err}
	for _, file := range replaced {
		original := strings.TrimSuffix(file, replacedSuffix)
		if slices.Contains(files, original) {
			errs = append(errs, os.Remove(file)) // its owner has rewritten it
		} else {
			errs = append(errs, os.Rename(file, original))
		}
		if err := os.Remove(listName(original)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	for _, file := range files {
		if _, err := c.without(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// files returns the files that a runtime reads, in its order.
func (c *Config) files() ([]string, error) {
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		switch filepath.Ext(e.Name()) {
		case ".conf", ".conflist", ".json":
			if !e.IsDir() {
				files = append(files, filepath.Join(c.Dir, e.Name()))
			}
		}
	}
	slices.Sort(files)
	return files, nil
}

// with adds the entry to a file. used is false for a file that is not a configuration; it is not changed.
func (c *Config) with(file string) (used bool, err error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	out, changed, err := conflist.With(data, c.Entry)
	if err != nil {
		c.passOver(file, err)
		return false, nil
	}
	delete(c.known, file)
	if !changed {
		return true, nil
	}
	target := file
	if filepath.Ext(file) != ".conflist" {
		// The runtime accepts a list only in a file with this suffix.
		target = listName(file)
	}
	if err := replace(target, out, modeOf(file)); err != nil {
		return false, err
	}
	if target != file {
		if err := os.Rename(file, file+replacedSuffix); err != nil {
			return false, err
		}
	}
	c.Log.Info("CNI configuration", "file", target, "entry", "written")
	return true, nil
}

func (c *Config) without(file string) (bool, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return false, err
	}
	out, changed, err := conflist.Without(data)
	if err != nil || !changed {
		return false, nil //nolint:nilerr // an unreadable file has no entry of ours
	}
	if err := replace(file, out, modeOf(file)); err != nil {
		return false, err
	}
	c.Log.Info("CNI configuration", "file", file, "entry", "taken out")
	return false, nil
}

func (c *Config) passOver(file string, err error) {
	if c.known[file] == err.Error() {
		return
	}
	if c.known == nil {
		c.known = map[string]string{}
	}
	c.known[file] = err.Error()
	c.Log.Warn("CNI configuration not changed", "file", file, "error", err)
}

func listName(file string) string {
	return strings.TrimSuffix(file, filepath.Ext(file)) + ".conflist"
}

func modeOf(file string) fs.FileMode {
	if info, err := os.Stat(file); err == nil {
		return info.Mode().Perm()
	}
	return 0o644
}
