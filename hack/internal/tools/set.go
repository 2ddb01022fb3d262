package tools

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Set is where each tool's binaries are: module name to directory.
type Set map[string]string

// Bin returns the path of a binary.
func (s Set) Bin(module, name string) string { return filepath.Join(s[module], name) }

// All builds and fetches everything.
func (b *Builder) All() (Set, error) {
	if err := b.Install(ClusterNeeds...); err != nil {
		return nil, err
	}
	set := Set{}
	for _, m := range Modules {
		dir, err := b.Build(m)
		if err != nil {
			return nil, err
		}
		set[m.Name] = dir
	}
	dir, err := b.Envoy()
	set["envoy"] = dir
	return set, err
}

// Link makes the tools that tests and people call available at stable paths.
// ctr gets a wrapper, as it is of no use without the cluster's socket.
func (s Set) Link(dir, containerdSocket string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var errs []error
	for name, target := range map[string]string{
		"kubectl": s.Bin("kube", "kubectl"), "helm": s.Bin("helm", "helm"), "envoy": s.Bin("envoy", "envoy"),
	} {
		errs = append(errs, link(target, filepath.Join(dir, name)))
	}
	script := fmt.Sprintf("#!/bin/sh\n# The cluster's containerd, in the namespace that Kubernetes uses.\n"+
		"CONTAINERD_ADDRESS=%s CONTAINERD_NAMESPACE=k8s.io exec %s \"$@\"\n", containerdSocket, s.Bin("containerd", "ctr"))
	tmp := filepath.Join(dir, ".ctr.tmp")
	errs = append(errs, os.WriteFile(tmp, []byte(script), 0o755), os.Rename(tmp, filepath.Join(dir, "ctr")))
	return errors.Join(errs...)
}

// link makes a symbolic link, or replaces one.
func link(target, path string) error {
	if now, err := os.Readlink(path); err == nil && now == target {
		return nil
	}
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	_ = os.Remove(tmp)
	return errors.Join(os.Symlink(target, tmp), os.Rename(tmp, path))
}
