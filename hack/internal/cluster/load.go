package cluster

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
	"github.com/mizzen-mesh/mizzen/hack/internal/supervisor"
)

// Load imports image archives, but not those that the cluster already has.
func (c Cluster) Load(archives ...string) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	spec, err := c.running()
	if err != nil {
		return fmt.Errorf("the cluster is not up (make cluster-up): %w", err)
	}
	present, err := c.ctr(spec, "images", "ls", "-q")
	if err != nil {
		return err
	}
	for _, archive := range archives {
		info, err := ociimage.Inspect(archive)
		if err != nil {
			return err
		}
		if c.loaded(info, present) {
			c.Log.Printf("%s: the cluster has it", strings.Join(info.Refs, ", "))
			continue
		}
		began := time.Now()
		if err := c.importImage(spec, archive); err != nil {
			return err
		}
		if err := c.record(info); err != nil {
			return err
		}
		c.Log.Printf("%s: loaded in %.1f s", strings.Join(info.Refs, ", "), time.Since(began).Seconds())
	}
	return nil
}

// loaded reports whether all names of an image are in the cluster and mean
// that image. containerd lists manifests it makes itself, not image IDs, so
// the ID of what was imported under a name is kept in a file.
func (c Cluster) loaded(info ociimage.Info, present string) bool {
	for _, ref := range info.Refs {
		data, err := os.ReadFile(c.recordFile(ref))
		if err != nil || string(data) != info.ID || !strings.Contains("\n"+present, "\n"+canonical(ref)+"\n") {
			return false
		}
	}
	return true
}

func (c Cluster) record(info ociimage.Info) error {
	for _, ref := range info.Refs {
		path := c.recordFile(ref)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(info.ID), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (c Cluster) recordFile(ref string) string {
	return c.State("loaded", strings.ReplaceAll(canonical(ref), "/", "_"))
}

// canonical is the full name that containerd gives an image: the registry that
// a short name means is docker.io.
func canonical(ref string) string {
	first, _, ok := strings.Cut(ref, "/")
	switch {
	case !ok:
		return "docker.io/library/" + ref
	case !strings.ContainsAny(first, ".:") && first != "localhost":
		return "docker.io/" + ref
	}
	return ref
}

func (c Cluster) importImage(spec supervisor.Spec, archive string) error {
	_, err := c.ctr(spec, "images", "import", archive)
	return err
}

func (c Cluster) ctr(spec supervisor.Spec, args ...string) (string, error) {
	args = append([]string{"--address", c.ContainerdSocket(), "--namespace", "k8s.io"}, args...)
	return proc.Run(filepath.Join(spec.Tools["containerd"], "ctr"), args...)
}
