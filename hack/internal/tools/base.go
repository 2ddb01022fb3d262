package tools

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mizzen-mesh/mizzen/hack/internal/ociimage"
)

// BaseImage is the name of the base image in its archive and in buildah's
// storage.
const BaseImage = "localhost/mizzen-base:dev"

// baseVersion changes when the archive would come out differently.
const baseVersion = "2"

// basePackages are the Debian packages whose files make the base image.
var basePackages = []string{"libc6", "ca-certificates"}

// baseScript fills the directory root. The published images are based on
// Debian's own; no registry that has those is needed for this one, which has
// what Envoy links against, and not even a shell.
const baseScript = `
set -eu
mkdir debs root && cd debs
apt-get -q download "$@"
for deb in *.deb; do dpkg -x "$deb" ../root; done
cd ../root
rm -rf usr/share/doc usr/share/man usr/share/lintian usr/share/locale usr/sbin usr/bin sbin bin
find . -type d -name gconv -exec rm -rf {} +
# Newer packages have everything below /usr and expect these links.
for dir in lib lib64; do [ -e "$dir" ] || ln -s "usr/$dir" "$dir"; done
mkdir -p etc/ssl/certs tmp
cat usr/share/ca-certificates/mozilla/*.crt > etc/ssl/certs/ca-certificates.crt
chmod 1777 tmp
printf 'root:x:0:0:root:/:/sbin/nologin\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n' > etc/passwd
printf 'root:x:0:\nnogroup:x:65534:\n' > etc/group
echo 'hosts: files dns' > etc/nsswitch.conf
cd ..
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C root -cf layer.tar .
`

// Base returns the archive of the base image, made from Debian packages of
// the machine's own release.
func (b *Builder) Base() (string, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("base image: it is made from Debian packages: %w", err)
	}
	sum := sha256.Sum256(fmt.Append(release, baseVersion, baseScript, basePackages))
	dir, err := b.cached("base", hex.EncodeToString(sum[:])[:16], func(dir, logFile string) error {
		work, err := os.MkdirTemp(b.Cache, ".tmp-base-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(work)
		run := func() ([]byte, error) {
			cmd := exec.Command("sh", append([]string{"-c", "rm -rf debs root; " + baseScript, "base"}, basePackages...)...)
			cmd.Dir = work
			return cmd.CombinedOutput()
		}
		out, err := run()
		if err != nil { // a machine that never ran it, or lists older than the archive
			update, _ := exec.Command("apt-get", "-q", "update").CombinedOutput()
			out, err = run()
			out = append(update, out...)
		}
		if err = errors.Join(err, os.WriteFile(logFile, out, 0o644)); err != nil {
			return err
		}
		layer, err := os.ReadFile(filepath.Join(work, "layer.tar"))
		if err != nil {
			return err
		}
		return ociimage.FromLayer(filepath.Join(dir, "base.tar"), BaseImage, layer, map[string]any{})
	})
	return filepath.Join(dir, "base.tar"), err
}
