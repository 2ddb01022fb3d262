package tools

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
)

// prometheusScript takes the programs from Debian's package without installing it: that would start a service.
const prometheusScript = `
set -eu
apt-get -q download prometheus
dpkg -x prometheus_*.deb root
mv root/usr/bin/prometheus root/usr/bin/promtool .
rm -rf root prometheus_*.deb
`

// Prometheus returns the directory of prometheus and promtool, from Debian's package of the machine's own release.
func (b *Builder) Prometheus() (string, error) {
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", fmt.Errorf("prometheus: it comes from a Debian package: %w", err)
	}
	sum := sha256.Sum256(fmt.Append(release, prometheusScript))
	return b.cached("prometheus", hex.EncodeToString(sum[:])[:16], func(dir, logFile string) error {
		run := func() ([]byte, error) {
			cmd := exec.Command("sh", "-c", prometheusScript)
			cmd.Dir = dir
			return cmd.CombinedOutput()
		}
		out, err := run()
		if err != nil { // lists older than the archive
			if _, uerr := proc.Run("apt-get", "-q", "update"); uerr == nil {
				out, err = run()
			}
		}
		if werr := os.WriteFile(logFile, out, 0o644); werr != nil {
			return werr
		}
		return err
	})
}

// LinkInto makes a program of a directory available at a stable path.
func LinkInto(to, from string, names ...string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		if err := link(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return nil
}
