package tools

import (
	"path/filepath"
	"slices"
)

// Module is one of hack's own Go modules, which pins versions in its go.mod
// and go.sum and from which binaries are built. Each is its own module because
// Kubernetes, containerd, Helm … ask for versions of shared libraries that do
// not go together.
type Module struct {
	Name     string   // directory below hack/
	Packages []string // main packages; a binary is named after the last element
	CGO      bool
	Tags     string
	LDFlags  string
	Links    map[string]string // further names of a binary
	Needs    []Need            // Debian packages to build it
}

// KubernetesVersion is what hack/kube/go.mod pins; the version that the
// programs report is set by the linker, as upstream's build does.
const KubernetesVersion = "v1.37.2"

const (
	containerdPkg = "github.com/containerd/containerd/v2"
	cniPkg        = "github.com/containernetworking/plugins/plugins"
	// moduleSelf is the module in the directory itself.
	moduleSelf = "."
)

// Modules lists everything that is built, the longest build first.
var Modules = []Module{
	{
		Name: "kube", Packages: []string{moduleSelf},
		LDFlags: "-X k8s.io/component-base/version.gitVersion=" + KubernetesVersion +
			" -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37" +
			" -X k8s.io/client-go/pkg/version.gitVersion=" + KubernetesVersion,
		Links: map[string]string{
			"etcd": "kube", "kube-apiserver": "kube", "kube-controller-manager": "kube",
			"kube-scheduler": "kube", "kubelet": "kube", "kube-proxy": "kube", "kubectl": "kube",
			"load-balancer": "kube",
		},
	},
	{
		Name: "containerd",
		Packages: []string{
			containerdPkg + "/cmd/containerd", containerdPkg + "/cmd/containerd-shim-runc-v2", containerdPkg + "/cmd/ctr",
		},
		// Snapshotters that need libraries or kernels we do not have.
		Tags:    "no_btrfs no_zfs no_devmapper",
		LDFlags: "-X " + containerdPkg + "/version.Version=v2.4.2",
	},
	{Name: "helm", Packages: []string{"helm.sh/helm/v4/cmd/helm"}},
	{Name: "coredns", Packages: []string{moduleSelf}},
	{
		// Without seccomp, runc refuses the RuntimeDefault profile, which the
		// sandbox always asks for.
		Name: "runc", Packages: []string{"github.com/opencontainers/runc"}, CGO: true, Tags: "seccomp",
		Needs: []Need{{Command: "pkg-config", Package: "pkg-config"}, {File: "/usr/include/seccomp.h", Package: "libseccomp-dev"}},
	},
	{
		Name:     "cni",
		Packages: []string{cniPkg + "/main/bridge", cniPkg + "/main/loopback", cniPkg + "/ipam/host-local", cniPkg + "/meta/portmap"},
	},
	{Name: "pause", Packages: []string{moduleSelf}},
}

// Helm returns the path of Helm.
func (b *Builder) Helm() (string, error) {
	dir, err := b.Build(module("helm"))
	return filepath.Join(dir, "helm"), err
}

// module returns the one of Modules with that name.
func module(name string) Module {
	return Modules[slices.IndexFunc(Modules, func(m Module) bool { return m.Name == name })]
}
