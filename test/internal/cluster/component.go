package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Component returns the process of a component of the embedded cluster. Of another cluster none can be had.
func (c *Cluster) Component(ctx context.Context, name string) (pid int, err error) {
	root, ok := strings.CutSuffix(c.Kubeconfig, filepath.Join("/", ".cluster", "kubeconfig"))
	if !ok {
		return 0, fmt.Errorf("%s of the cluster of %s: only an embedded cluster has its components on this machine", name, c.Kubeconfig)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(root, ".build", "tools", "cluster"), "status")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("cluster status: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == name {
			return strconv.Atoi(f[1])
		}
	}
	return 0, fmt.Errorf("no %s in:\n%s", name, out)
}
