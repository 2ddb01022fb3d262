package ctl

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

type versionOptions struct {
	clusterFlags
	connect    connector
	system     string
	clientOnly bool
	output     string
}

// versionView is the result of version, and the format of -o json and yaml.
type versionView struct {
	Client string `json:"client"`
	versionCounts
	// Revisions are control planes beside the main one, by name.
	Revisions map[string]*versionCounts `json:"revisions,omitempty"`
}

// versionCounts are the numbers of pods by version, of a control plane and of the sidecars that it has injected.
type versionCounts struct {
	ControlPlane map[string]int `json:"controlPlane,omitempty"`
	Sidecars     map[string]int `json:"sidecars,omitempty"`
}

func newVersionCounts() *versionCounts {
	return &versionCounts{ControlPlane: map[string]int{}, Sidecars: map[string]int{}}
}

// of returns the counts of a revision; empty is the main control plane.
func (v *versionView) of(revision string) *versionCounts {
	if revision == "" {
		return &v.versionCounts
	}
	if v.Revisions == nil {
		v.Revisions = map[string]*versionCounts{}
	}
	if v.Revisions[revision] == nil {
		v.Revisions[revision] = newVersionCounts()
	}
	return v.Revisions[revision]
}

// unknownVersion is the version of a pod that does not state one.
const unknownVersion = "unknown"

func newVersionCommand(connect connector) *cobra.Command {
	o := versionOptions{connect: connect}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of mizzenctl, the control plane and the sidecars",
		Long: `Show the versions of mizzenctl itself, of the control plane's pods and of all pods with a sidecar, with the number
of pods of each. A sidecar has the version of the control plane that injected it, until its pod is made anew.

Without a cluster, or with --client, it is mizzenctl's own alone.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	o.addCluster(flags)
	flags.StringVar(&o.system, "system-namespace", config.SystemNamespace, "namespace of the control plane")
	flags.BoolVar(&o.clientOnly, "client", false, "show only the version of mizzenctl, without a cluster")
	flags.StringVarP(&o.output, "output", "o", "table", wantOutput)
	return cmd
}

func (o *versionOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	v := versionView{Client: version.Version}
	var unread error
	if !o.clientOnly {
		c, err := o.connect(&o.clusterFlags)
		if err == nil {
			err = v.read(ctx, c, o.system)
		}
		unread = err
	}
	if err := write(stdout, o.output, v, func(p paint) string { return renderVersion(v, p) }); err != nil {
		return err
	}
	if unread == nil || o.kubeconfig != "" || o.context != "" { // a cluster that the command line names must answer
		return unread
	}
	_, err := fmt.Fprintf(stderr, "note: cannot read the versions of control plane and sidecars: %v\n", unread)
	return err
}

func (v *versionView) read(ctx context.Context, c client.Client, system string) error {
	var pods corev1.PodList
	if err := c.List(ctx, &pods); err != nil {
		return fmt.Errorf("list Pods: %w", err)
	}
	v.versionCounts = *newVersionCounts()
	for i := range pods.Items {
		switch p := &pods.Items[i]; {
		case p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed:
		case isReplica(p, system):
			v.of(p.Labels[config.LabelRevision]).ControlPlane[cmp.Or(p.Labels[versionLabel], unknownVersion)]++
		case sidecar.Has(p):
			v.of(sidecar.Revision(&p.Spec)).Sidecars[sidecarVersion(p)]++
		}
	}
	return nil
}

// controllerName is the name of the control plane's Deployment, and versionLabel the chart's label with its version.
const (
	controllerName = config.ControllerService
	versionLabel   = "app.kubernetes.io/version"
)

// isReplica reports whether a pod is one of the control plane's.
func isReplica(p *corev1.Pod, system string) bool {
	return p.Namespace == system && p.Labels["app.kubernetes.io/name"] == controllerName
}

// sidecarVersion returns the version of the control plane that injected a pod's sidecar.
func sidecarVersion(p *corev1.Pod) string {
	return cmp.Or(p.Annotations[config.AnnotationInjected], unknownVersion)
}

func renderVersion(v versionView, p paint) string {
	var t table
	t.row(cell{text: "client"}, cell{v.Client, bold})
	if v.ControlPlane != nil {
		t.row(cell{text: "control plane"}, cell{text: byVersion(v.ControlPlane)})
		t.row(cell{text: "sidecars"}, cell{text: byVersion(v.Sidecars)})
	}
	for _, name := range slices.Sorted(maps.Keys(v.Revisions)) {
		t.row(cell{text: "control plane, revision " + printable(name)}, cell{text: byVersion(v.Revisions[name].ControlPlane)})
		t.row(cell{text: "sidecars, revision " + printable(name)}, cell{text: byVersion(v.Revisions[name].Sidecars)})
	}
	return t.String(p)
}

func byVersion(pods map[string]int) string {
	var out []string
	for _, v := range slices.Sorted(maps.Keys(pods)) {
		out = append(out, fmt.Sprintf("%s (%s)", printable(v), plural(pods[v], "pod")))
	}
	return cmp.Or(strings.Join(out, ", "), "none")
}
