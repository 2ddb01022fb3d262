// Command cluster runs the embedded Kubernetes cluster of this checkout, builds
// what it is made of, and builds and loads images. See its usage text.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"

	"github.com/mizzen-mesh/mizzen/hack/internal/cluster"
	"github.com/mizzen-mesh/mizzen/hack/internal/components"
	"github.com/mizzen-mesh/mizzen/hack/internal/images"
	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
	"github.com/mizzen-mesh/mizzen/hack/internal/progress"
	"github.com/mizzen-mesh/mizzen/hack/internal/supervisor"
	"github.com/mizzen-mesh/mizzen/hack/internal/tools"
)

const usage = `usage: cluster COMMAND

  up [--emulated-version MINOR] [--feature-gates NAME=BOOL,...]
                          start the cluster, building what is missing; as an
                          older Kubernetes, or with other gates
  down                    stop it and remove all it left on the machine
  status                  show its components; exit code 1 if it is not up
  kubeconfig              print the path of its kubeconfig
  logs COMPONENT [-f]     show the log of a component
  load IMAGE.tar...       import image archives
  tools                   build and fetch everything the cluster needs
  test-tools              install the browser that tests of pages drive, and
                          fetch the Prometheus that tests of rules ask
  bin                     build this repository's binaries, into .build/bin
  images [--load] [--only NAME]...
                          build images from them (and load them into the cluster);
                          NAME is a target of a Dockerfile
  previous                build the images of the release before, from which
                          upgrades are tested, and load them into the cluster
  conformance             build the images that the Gateway API's conformance
                          suite needs, and load them into the cluster
  programs                build the image with the real programs that the
                          end-to-end tests run, and load it into the cluster

It works on the checkout that the current directory is in.
`

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if args[0] == "supervise" && len(args) == 2 { // the daemon, see package supervisor
		return supervisor.Run(args[1])
	}
	root, err := layout.ResolveRoot(".")
	if err != nil {
		return err
	}
	c := cluster.Cluster{Layout: layout.New(root), Log: progress.New(os.Stderr)}
	switch command, args := args[0], args[1:]; command {
	case "up":
		return up(c, args)
	case "down":
		return c.Down()
	case "status":
		return c.Status(os.Stdout)
	case "kubeconfig":
		fmt.Println(c.Kubeconfig())
		return nil
	case "logs":
		return logs(c, args)
	case "load":
		return c.Load(args...)
	case "tools":
		_, err := buildTools(c)
		return err
	case "test-tools":
		return testTools(c)
	case "bin":
		b, err := imageBuilder(c)
		if err != nil {
			return err
		}
		return b.Bin()
	case "images":
		return buildImages(c, args)
	case "previous":
		b, err := imageBuilder(c)
		if err != nil {
			return err
		}
		archives, err := b.Previous()
		if err != nil || len(archives) == 0 {
			return err
		}
		if err := c.Load(archives...); err != nil {
			return err
		}
		return os.WriteFile(c.State("previous"), nil, 0o644) // for the tests; it goes with the cluster
	case "conformance":
		return extra(c, (*tools.Builder).Conformance)
	case "programs":
		return extra(c, func(b *tools.Builder) ([]string, error) {
			path, err := b.Programs()
			return []string{path}, err
		})
	default:
		fmt.Fprint(os.Stderr, usage)
		return fmt.Errorf("no command %q", command)
	}
}

func up(c cluster.Cluster, args []string) error {
	var version components.Version
	flags := flag.NewFlagSet("up", flag.ContinueOnError)
	flags.StringVar(&version.Emulated, "emulated-version", "", "minor version whose APIs and gates the control plane has, such as 1.34")
	flags.StringVar(&version.FeatureGates, "feature-gates", "", "gates to switch in the control plane and the kubelet, as Name=true,Other=false")
	if err := flags.Parse(args); err != nil {
		return err
	}
	set, err := buildTools(c)
	if err != nil {
		return err
	}
	if err := c.Up(set, version); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "\n  export KUBECONFIG=%s PATH=%s:$PATH\n\n", c.Kubeconfig(), c.Build("tools"))
	return nil
}

// buildTools builds what is missing and links it into the checkout.
func buildTools(c cluster.Cluster) (tools.Set, error) {
	b, err := tools.NewBuilder(c.Hack(), c.Log)
	if err != nil {
		return nil, err
	}
	set, err := b.All()
	if err != nil {
		return nil, err
	}
	return set, set.Link(c.Build("tools"), c.ContainerdSocket())
}

func imageBuilder(c cluster.Cluster) (*images.Builder, error) {
	b, err := tools.NewBuilder(c.Hack(), c.Log)
	return &images.Builder{Layout: c.Layout, Log: c.Log, Tools: b, Version: cmp.Or(os.Getenv("VERSION"), "dev")}, err
}

func buildImages(c cluster.Cluster, args []string) error {
	var only []string
	flags := flag.NewFlagSet("images", flag.ContinueOnError)
	load := flags.Bool("load", false, "load the images into the cluster")
	flags.Func("only", "build only this image: "+images.Names(), func(name string) error {
		only = append(only, name)
		return nil
	})
	if err := flags.Parse(args); err != nil {
		return err
	}
	b, err := imageBuilder(c)
	if err != nil {
		return err
	}
	archives, err := b.Images(append(only, flags.Args()...)...)
	if err != nil || !*load {
		return err
	}
	return c.Load(archives...)
}

// testTools are those that tests without a cluster need beside Envoy and Helm.
func testTools(c cluster.Cluster) error {
	b, err := tools.NewBuilder(c.Hack(), c.Log)
	if err != nil {
		return err
	}
	if err := b.Install(tools.BrowserNeeds...); err != nil {
		return err
	}
	dir, err := b.Prometheus()
	if err != nil {
		return err
	}
	return tools.LinkInto(c.Build("tools"), dir, "prometheus", "promtool")
}

// extra loads images that one kind of test alone needs, and that take a minute to build.
func extra(c cluster.Cluster, archives func(*tools.Builder) ([]string, error)) error {
	b, err := tools.NewBuilder(c.Hack(), c.Log)
	if err != nil {
		return err
	}
	paths, err := archives(b)
	if err != nil {
		return err
	}
	return c.Load(paths...)
}

func logs(c cluster.Cluster, args []string) error {
	if len(args) == 0 {
		return errors.New("logs of which component?")
	}
	path, err := c.LogPath(args[0])
	if err != nil {
		return err
	}
	cmd := exec.Command("cat", path)
	if len(args) > 1 && args[1] == "-f" {
		cmd = exec.Command("tail", "-n", "50", "-F", path)
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}
