package tools

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Debian is a base image's layer and the packages that it is made of.
type Debian struct {
	Layer    []byte // an uncompressed tar archive
	Release  string // what the machine calls itself, such as debian 12
	Packages []DebianPackage
}

// DebianPackage is one package of a base image.
type DebianPackage struct {
	Name, Version, Arch string
	SHA256              string
}

// PackageURL returns what names the package in lists of components, given the release that it is from.
func (p DebianPackage) PackageURL(release string) string {
	vendor, _, _ := strings.Cut(release, " ")
	return fmt.Sprintf("pkg:deb/%s/%s@%s?arch=%s&distro=%s", vendor, p.Name, url.QueryEscape(p.Version), p.Arch, strings.ReplaceAll(release, " ", "-"))
}

// aptConfig keeps all that apt writes in a directory of its own. The machine's apt and dpkg see nothing of it, and
// packages of another architecture can be had without `dpkg --add-architecture`. Sources and keys are the machine's.
const aptConfig = `
Dir::State %[1]q;
Dir::State::status "%[1]s/status";
Dir::Cache %[2]q;
APT::Architecture %[3]q;
APT::Architectures { %[3]q; };
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Update::Error-Mode "any";
`

// DebianFor makes the base image's layer for an architecture, as Go and Debian name it, from the packages that the
// machine's own release has now: a release shall have what was fixed since the last one. Nothing is cached.
func (b *Builder) DebianFor(arch string) (Debian, error) {
	var base Debian
	err := b.Log.Step("base image for "+arch+" from Debian packages", func() (err error) {
		base, err = debianFor(arch)
		return err
	})
	return base, err
}

func debianFor(arch string) (Debian, error) {
	work, err := os.MkdirTemp("", "mizzen-base-")
	if err != nil {
		return Debian{}, err
	}
	defer os.RemoveAll(work)
	state, cache, config := filepath.Join(work, "state"), filepath.Join(work, "cache"), filepath.Join(work, "apt.conf")
	err = errors.Join(
		os.MkdirAll(filepath.Join(state, "lists", "partial"), 0o755), os.MkdirAll(filepath.Join(cache, "archives", "partial"), 0o755),
		os.WriteFile(filepath.Join(state, "status"), nil, 0o644), os.WriteFile(config, fmt.Appendf(nil, aptConfig, state, cache, arch), 0o644),
	)
	if err != nil {
		return Debian{}, err
	}
	run := func(script string, args ...string) (string, error) {
		cmd := exec.Command("sh", append([]string{"-euc", "umask 022\n" + script, "base"}, args...)...)
		cmd.Dir = work
		cmd.Env = append(os.Environ(), "APT_CONFIG="+config, "LC_ALL=C")
		out, err := cmd.Output()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			err = fmt.Errorf("base image for %s: %w\n%s%s", arch, err, out, exit.Stderr)
		}
		return string(out), err
	}
	if _, err := run("apt-get -q update"); err != nil {
		return Debian{}, err
	}
	if _, err := run(baseScript, basePackages...); err != nil {
		return Debian{}, err
	}
	release, err := run(`. /etc/os-release; echo "$ID ${VERSION_ID:-$VERSION_CODENAME}"`)
	if err != nil {
		return Debian{}, err
	}
	base := Debian{Release: strings.TrimSpace(release)}
	if base.Layer, err = os.ReadFile(filepath.Join(work, "layer.tar")); err != nil {
		return Debian{}, err
	}
	debs, err := filepath.Glob(filepath.Join(work, "debs", "*.deb"))
	if err != nil || len(debs) != len(basePackages) {
		return Debian{}, fmt.Errorf("base image for %s: apt downloaded %v for %v", arch, debs, basePackages)
	}
	for _, deb := range debs {
		data, err := os.ReadFile(deb)
		if err != nil {
			return Debian{}, err
		}
		fields, err := run(`dpkg-deb --show --showformat='${Package} ${Version} ${Architecture}' "$1"`, deb)
		if err != nil {
			return Debian{}, err
		}
		p := strings.Fields(fields)
		if len(p) != 3 {
			return Debian{}, fmt.Errorf("%s: not a name, a version and an architecture: %q", deb, fields)
		}
		sum := sha256.Sum256(data)
		base.Packages = append(base.Packages, DebianPackage{Name: p[0], Version: p[1], Arch: p[2], SHA256: hex.EncodeToString(sum[:])})
	}
	return base, nil
}
