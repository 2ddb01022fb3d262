package images

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
	"github.com/mizzen-mesh/mizzen/hack/internal/supervisor"
	"github.com/mizzen-mesh/mizzen/hack/internal/tools"
)

// run calls buildah with storage of the checkout's own, so that nothing on the
// machine is changed and two checkouts may use the same image names. The vfs
// driver mounts nothing: a killed build leaves only files.
func (b *Builder) run(args ...string) (string, error) {
	store := b.Build("buildah")
	global := []string{"--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run"), "--storage-driver", "vfs"}
	return proc.Run("buildah", append(global, args...)...)
}

// policy writes the signature policy that buildah insists on, which not every
// machine has: everything here is made here.
func (b *Builder) policy() (string, error) {
	file := b.Build("buildah", "policy.json")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", err
	}
	return "--signature-policy=" + file, os.WriteFile(file, []byte(`{"default": [{"type": "insecureAcceptAnything"}]}`), 0o644)
}

// buildah builds one image and writes its archive.
func (b *Builder) buildah(image Image, base, archive string) error {
	policy, err := b.policy()
	if err != nil {
		return err
	}
	if err := b.importBase(policy, base); err != nil {
		return err
	}
	// Kubernetes means docker.io when it says mizzen/proxy.
	local := "docker.io/" + image.Ref
	before, _ := b.run("images", "-q", "--no-trunc", local)
	_, err = b.run("build", policy, "--isolation=chroot", "--pull-never", "--format=docker", "--quiet",
		// A layer an instruction: Envoy's is kept when only the agent changes.
		"--layers",
		"--build-arg=BASE_IMAGE="+tools.BaseImage, "--build-arg=VERSION="+b.Version,
		"--target="+image.Target, "--tag="+local, "--file="+filepath.Join(b.Root, image.Dockerfile),
		"--ignorefile="+filepath.Join(b.Root, ".dockerignore"), b.Root)
	if err != nil {
		return err
	}
	// The replaced image and its layers would fill the disk.
	if after, _ := b.run("images", "-q", "--no-trunc", local); before != "" && before != after {
		_, _ = b.run("rmi", strings.TrimSpace(before))
	}
	tmp := archive + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := b.run("push", policy, "--quiet", local, "docker-archive:"+tmp+":"+local); err != nil {
		return err
	}
	return os.Rename(tmp, archive)
}

// importBase puts the base image into buildah's storage, if it is another than
// the one there.
func (b *Builder) importBase(policy, archive string) error {
	mark := b.Build("buildah", "base")
	if data, err := os.ReadFile(mark); err == nil && string(data) == archive {
		return nil
	}
	if _, err := b.run("pull", policy, "--quiet", "docker-archive:"+archive); err != nil {
		return err
	}
	return os.WriteFile(mark, []byte(archive), 0o644)
}

// sizes returns how large an archive's layers are, plain and compressed.
// Compressing Envoy takes seconds, so what is known of a layer is kept; a
// layer is named by its hash.
func (b *Builder) sizes(archive string, layers []string) (plain, compressed int64, err error) {
	type size struct{ Plain, Compressed int64 }
	file := b.Build("images", "layers.json")
	known, _ := supervisor.ReadJSON[map[string]size](file)
	if known == nil {
		known = map[string]size{}
	}
	err = ociimage.EachFile(archive, func(name string, r io.Reader) error {
		if !slices.Contains(layers, name) {
			return nil
		}
		s, ok := known[name]
		if !ok {
			var out counter
			w := gzip.NewWriter(&out)
			n, err := io.Copy(w, r)
			if err = errors.Join(err, w.Close()); err != nil {
				return err
			}
			s = size{Plain: n, Compressed: int64(out)}
			known[name] = s
		}
		plain, compressed = plain+s.Plain, compressed+s.Compressed
		return nil
	})
	return plain, compressed, errors.Join(err, supervisor.WriteJSON(file, known))
}

// counter counts the bytes written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}
