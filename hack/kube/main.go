// Command kube is every Kubernetes component of the embedded cluster, its load
// balancer, etcd and kubectl in one binary, chosen by the name it is called by
// (a symlink) or by its first argument. One binary links the shared libraries
// once: 160 MB instead of 600 MB, and a third of the link time.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client-go metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build info metric
	kubectl "k8s.io/kubectl/pkg/cmd"
	kubectlutil "k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"

	"github.com/mizzen-mesh/mizzen/hack/kube/loadbalancer"
)

// components maps a program name to its main function, which gets os.Args
// with the program itself first and returns the exit code.
var components = map[string]func(args []string) int{
	"etcd":                    runEtcd,
	"kube-apiserver":          command(apiserver.NewAPIServerCommand),
	"kube-controller-manager": command(controllermanager.NewControllerManagerCommand),
	"kube-scheduler":          command(func() *cobra.Command { return scheduler.NewSchedulerCommand() }),
	"kube-proxy":              command(proxy.NewProxyCommand),
	// The kubelet installs its signal handler itself.
	"kubelet":       command(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) }),
	"kubectl":       runKubectl,
	"load-balancer": command(loadbalancer.NewCommand),
}

func main() {
	args := slices.Clone(os.Args)
	name := filepath.Base(args[0])
	if _, ok := components[name]; !ok && len(args) > 1 {
		args = args[1:]
		name = args[0]
	}
	run, ok := components[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "kube: no component %q\n", name)
		os.Exit(2)
	}
	// Cobra commands, plugins and usage texts read os.Args themselves.
	os.Args = args
	os.Exit(run(args))
}

// command runs a component the way its own main function does. The command is
// built only now because building one registers flags process-wide.
func command(build func() *cobra.Command) func([]string) int {
	return func([]string) int { return cli.Run(build()) }
}

func runEtcd(args []string) int {
	etcdmain.Main(args) // exits by itself on failure
	return 0
}

func runKubectl([]string) int {
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		// Prints the way kubectl does and exits with its code.
		kubectlutil.CheckErr(err)
	}
	return 0
}
