// Command mizzen-cni is the CNI plugin, which the container runtime of a node calls for each pod. It may import
// internal/cni/plugin and internal/version.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/mizzen-mesh/mizzen/internal/cni/plugin"
	mizzen "github.com/mizzen-mesh/mizzen/internal/version"
)

func main() {
	skel.PluginMainFuncs(plugin.Funcs(), version.All, "mizzen-cni "+mizzen.Version+": captures the traffic of pods with a Mizzen sidecar")
}
