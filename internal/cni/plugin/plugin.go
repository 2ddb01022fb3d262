// Package plugin is the CNI plugin that captures the traffic of pods with a sidecar. It runs after the node's own
// plugins, and passes their result on unchanged. It asks the node's process (internal/cni/node) which pods to capture
// and how.
// https://www.cni.dev/docs/spec/
//
// Its process runs for milliseconds at each start of a pod, so it must not import a client of Kubernetes.
package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"

	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/cni/api"
)

// Config is the plugin's entry in the node's CNI configuration, with the fields that the runtime adds.
type Config struct {
	types.NetConf
	// Socket is the path at which the node's process listens.
	Socket string `json:"socket"`
}

// podArgs are the fields of CNI_ARGS with which a kubelet's runtime names the pod.
type podArgs struct {
	types.CommonArgs
	K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_UID types.UnmarshallableString //nolint:revive // the runtime's names
}

// Funcs are the commands of the plugin.
func Funcs() skel.CNIFuncs {
	return skel.CNIFuncs{
		Add: add, Check: check,
		// Nothing to do: the rules vanish with the pod's network namespace, and the plugin stores nothing else.
		Del: func(*skel.CmdArgs) error { return nil },
		GC:  func(*skel.CmdArgs) error { return nil },
		// Nothing to do: pods start even without the node's process, see add.
		Status: func(*skel.CmdArgs) error { return nil },
	}
}

func read(args *skel.CmdArgs) (*Config, api.Pod, error) {
	c := &Config{}
	if err := json.Unmarshal(args.StdinData, c); err != nil {
		return nil, api.Pod{}, types.NewError(types.ErrDecodingFailure, "mizzen-cni: its configuration is not JSON", err.Error())
	}
	if err := version.ParsePrevResult(&c.NetConf); err != nil {
		return nil, api.Pod{}, types.NewError(types.ErrDecodingFailure, "mizzen-cni: the result of the previous plugin", err.Error())
	}
	pod := podArgs{}
	pod.IgnoreUnknown = true
	if err := types.LoadArgs(args.Args, &pod); err != nil {
		return nil, api.Pod{}, types.NewError(types.ErrInvalidEnvironmentVariables, "mizzen-cni: CNI_ARGS", err.Error())
	}
	return c, api.Pod{Namespace: string(pod.K8S_POD_NAMESPACE), Name: string(pod.K8S_POD_NAME), UID: string(pod.K8S_POD_UID)}, nil
}

// add captures a pod's traffic if the pod has a sidecar.
//
// Without the node's process nobody knows which pods have a sidecar. All pods start then. Those with a sidecar wait in
// it until the process is back and has captured their traffic, and the others do not depend on the mesh.
func add(args *skel.CmdArgs) error {
	c, pod, err := read(args)
	if err != nil {
		return err
	}
	if c.PrevResult == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "mizzen-cni: no result of a previous plugin; it must come after the plugin that connects the pod", "")
	}
	if err := captureTraffic(context.Background(), c, pod, args.Netns); err != nil {
		return err
	}
	return types.PrintResult(c.PrevResult, c.CNIVersion)
}

func captureTraffic(ctx context.Context, c *Config, pod api.Pod, netns string) error {
	if pod.Name == "" {
		return nil // not from a kubelet
	}
	client := api.Client{Socket: c.Socket}
	answer, err := client.Ask(ctx, pod)
	var refused *api.StatusError
	switch {
	case errors.As(err, &refused) && refused.Code == http.StatusUnprocessableEntity:
		return types.NewError(types.ErrInvalidNetworkConfig, "mizzen-cni: pod "+pod.String(), refused.Text)
	case err != nil || answer.Capture == nil:
		return nil //nolint:nilerr // without an answer the pod is not captured
	}
	var installed capture.Installed
	err = ns.WithNetNSPath(netns, func(ns.NetNS) (err error) {
		if err := loopbackUp(); err != nil {
			return err
		}
		installed, err = capture.Install(*answer.Capture)
		return err
	})
	report := api.Report{Pod: pod, Text: installed.Describe(*answer.Capture)}
	if err != nil {
		report.Text, report.Error = err.Error(), true
		err = types.NewError(types.ErrInternal, "mizzen-cni: pod "+pod.String()+": capture its traffic", report.Text)
	}
	_ = client.Tell(ctx, report) // only for the log
	return err
}

// loopbackUp brings lo up, because the rules include a route over it. A runtime does so, too, but perhaps later.
func loopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	return netlink.LinkSetUp(lo)
}

// check reports whether the rules that add wrote still exist.
func check(args *skel.CmdArgs) error {
	c, pod, err := read(args)
	if err != nil || pod.Name == "" {
		return err
	}
	answer, err := (api.Client{Socket: c.Socket}).Ask(context.Background(), pod)
	if err != nil || answer.Capture == nil {
		return nil //nolint:nilerr // without an answer there is nothing to check
	}
	present := false
	if err := ns.WithNetNSPath(args.Netns, func(ns.NetNS) (err error) {
		present, err = capture.Present()
		return err
	}); err != nil {
		return types.NewError(types.ErrInternal, "mizzen-cni: pod "+pod.String()+": check its capture rules", err.Error())
	}
	if !present {
		return types.NewError(types.ErrInternal, fmt.Sprintf("mizzen-cni: pod %s has no capture rules", pod), "")
	}
	return nil
}
