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
	return c.run(ctx, "", "helm", args)
}

// Kubectl runs the real kubectl on the manifests that it is given, if any; the error holds what it printed.
func (c *Cluster) Kubectl(ctx context.Context, manifests string, args ...string) (string, error) {
	return c.run(ctx, manifests, "kubectl", args)
}

func (c *Cluster) run(ctx context.Context, stdin, tool string, args []string) (string, error) {
	bin, err := c.tool(tool)
	if err != nil {
		return "", err
	}
	// In front: what follows "--" is another program's.
	cmd := exec.CommandContext(ctx, bin, append([]string{"--kubeconfig", c.Kubeconfig}, args...)...)
	cmd.Dir, cmd.Stdin = c.Root, strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", tool, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// InstallMizzen installs or upgrades the chart of the checkout and waits until it runs, with no values of before. Values are
// "key=value", after those of $MIZZEN_HELM_SET (with commas between): the images, where they have other names than those
// that `make images` builds and the chart names.
func (c *Cluster) InstallMizzen(ctx context.Context, values ...string) error {
	return c.InstallChart(ctx, Release, Chart, values...)
}

// Chart is the chart of the checkout, and PreviousChart that of the release before, where its images are loaded
// (hack/cmd/cluster, "previous"). Both are paths in the checkout.
const (
	Chart         = "charts/mizzen"
	PreviousChart = ".build/previous/charts/mizzen"
)

// HasPrevious reports whether the chart and the images of the release before are there.
func (c *Cluster) HasPrevious() bool {
	if os.Getenv("KUBECONFIG") != "" {
		return false // nobody knows what is loaded there
	}
	_, err := os.Stat(filepath.Join(c.Root, ".cluster", "previous"))
	return err == nil
}

// InstallChart installs or upgrades a release as InstallMizzen does, with the chart at a path in the checkout.
func (c *Cluster) InstallChart(ctx context.Context, release, chart string, values ...string) error {
	defer meta.MaybeResetRESTMapper(c.mapper) // the chart brings a CRD
	args := []string{"upgrade", "--install", release, chart, "-n", SystemNamespace, "--create-namespace", "--reset-values", "--wait", "--timeout", "3m"}
	_, err := c.Helm(ctx, append(args, settings(values)...)...)
	return err
}

// RenderMizzen gives the manifests of the chart, without what `helm test` brings.
func (c *Cluster) RenderMizzen(ctx context.Context, values ...string) (string, error) {
	args := []string{"template", Release, "charts/mizzen", "-n", SystemNamespace, "--no-hooks"}
	return c.Helm(ctx, append(args, settings(values)...)...)
}

func settings(values []string) []string {
	var base, args []string
	if env := os.Getenv("MIZZEN_HELM_SET"); env != "" {
		base = strings.Split(env, ",")
	}
	for _, v := range append(base, values...) {
		args = append(args, "--set", v)
	}
	return args
}

// UninstallMizzen removes the release and waits until its objects are gone.
func (c *Cluster) UninstallMizzen(ctx context.Context) error { return c.UninstallRelease(ctx, Release) }

// UninstallRelease does so for any release in the control plane's namespace.
func (c *Cluster) UninstallRelease(ctx context.Context, release string) error {
	_, err := c.Helm(ctx, "uninstall", release, "-n", SystemNamespace, "--wait", "--timeout", "2m", "--ignore-not-found")
	return err
}
