package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
)

// Release and SystemNamespace of the installation.
const (
	Release         = "mizzen"
	SystemNamespace = "mizzen-system"
)

// DevImages are the chart values for the images that make images builds.
var DevImages = []string{
	"controller.image.repository=mizzen/controller", "controller.image.tag=dev",
	"proxy.image.repository=mizzen/proxy", "proxy.image.tag=dev",
}

// tool finds a program: the one built into the checkout, else the one in PATH.
func (c *Cluster) tool(name string) (string, error) {
	built := filepath.Join(c.Root, ".build", "tools", name)
	if _, err := os.Stat(built); err == nil {
		return built, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: neither %s nor in PATH: make tools", name, built)
	}
	return path, nil
}

// Helm runs the real helm; the error holds what it printed.
func (c *Cluster) Helm(ctx context.Context, args ...string) (string, error) {
	bin, err := c.tool("helm")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, bin, append(args, "--kubeconfig", c.Kubeconfig)...)
	cmd.Dir = c.Root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("helm %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// InstallMizzen installs or upgrades the chart of the checkout and waits until it runs. Values are
// "key=value" on top of DevImages, or instead of them where $MIZZEN_HELM_SET names others
// (with commas between).
func (c *Cluster) InstallMizzen(ctx context.Context, values ...string) error {
	defer meta.MaybeResetRESTMapper(c.mapper) // the chart brings a CRD
	base := DevImages
	if env := os.Getenv("MIZZEN_HELM_SET"); env != "" {
		base = strings.Split(env, ",")
	}
	args := []string{"upgrade", "--install", Release, "charts/mizzen", "-n", SystemNamespace, "--create-namespace", "--wait", "--timeout", "3m"}
	for _, v := range append(append([]string{}, base...), values...) {
		args = append(args, "--set", v)
	}
	_, err := c.Helm(ctx, args...)
	return err
}

// UninstallMizzen removes the release and waits until its objects are gone.
func (c *Cluster) UninstallMizzen(ctx context.Context) error {
	_, err := c.Helm(ctx, "uninstall", Release, "-n", SystemNamespace, "--wait", "--timeout", "2m")
	return err
}
