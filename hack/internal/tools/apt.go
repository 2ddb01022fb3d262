package tools

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
)

// Need is a Debian package and how to see that it (or its like, on another
// system) is installed.
type Need struct {
	Command string   // a program in PATH, or
	Or      []string // one that does as well, or
	File    string   // an existing file
	Package string
}

// ClusterNeeds are the programs that a running cluster calls.
var ClusterNeeds = []Need{
	{Command: "ip", Package: "iproute2"},
	{Command: "nft", Package: "nftables"}, // kube-proxy calls it
	{Command: "nsenter", Package: "util-linux"},
	{Command: "mount", Package: "mount"}, // the kubelet calls it
	{Command: "jq", Package: "jq"},
	{Command: "openssl", Package: "openssl"}, // makes certificates for tests
}

// BrowserNeeds are for the tests of pages. The headless shell is the smallest that Debian has.
var BrowserNeeds = []Need{{Command: "chromium-headless-shell", Or: []string{"chromium", "google-chrome"}, Package: "chromium-headless-shell"}}

// ImageNeeds are the programs that the image build calls.
var ImageNeeds = []Need{{Command: "buildah", Package: "buildah"}}

func (n Need) met() bool {
	if n.Command != "" {
		return slices.ContainsFunc(append([]string{n.Command}, n.Or...), func(command string) bool {
			_, err := exec.LookPath(command)
			return err == nil
		})
	}
	_, err := os.Stat(n.File)
	return err == nil
}

// Install installs the packages of unmet needs.
func (b *Builder) Install(needs ...Need) error {
	var missing []string
	for _, n := range needs {
		if !n.met() {
			missing = append(missing, n.Package)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("please install these (named as in Debian): %s", strings.Join(missing, " "))
	}
	b.Log.Printf("installing Debian packages: %s", strings.Join(missing, " "))
	if err := os.Setenv("DEBIAN_FRONTEND", "noninteractive"); err != nil {
		return err
	}
	// Only dpkg's lock has a waiting option; apt's lists lock needs retrying.
	return proc.Eventually(3*time.Minute, 3*time.Second, func() error {
		if _, err := proc.Run("apt-get", "update", "-q"); err != nil {
			return err
		}
		args := []string{"install", "-q", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"}
		_, err := proc.Run("apt-get", append(args, missing...)...)
		return err
	})
}
