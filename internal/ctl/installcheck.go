package ctl

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
)

type installCheckOptions struct {
	clusterFlags
	connect connector
	system  string
	output  string
}

func newInstallCheckCommand(connect connector) *cobra.Command {
	o := installCheckOptions{connect: connect}
	cmd := &cobra.Command{
		Use:   "install-check",
		Short: "Check whether a cluster is fit for Mizzen, before and after helm install",
		Long: `Check whether a cluster is fit for Mizzen, before and after helm install: the versions of its kubelets, the platforms
of its nodes, the CRDs of the Gateway API, namespaces of the mesh that refuse its pods or are in another mesh too, other
meshes that inject sidecars, a replacement of kube-proxy that translates Services in the sockets of pods, and Mizzen's CNI plugin.

Kubernetes must allow you to list nodes, namespaces, CustomResourceDefinitions and MutatingWebhookConfigurations, and to get
the Deployment mizzen-controller, the DaemonSet mizzen-cni, the ConfigMap cilium-config of kube-system and Calico's
FelixConfiguration. What may not be read is unknown, and the rest is shown.

The exit code is 0 if the cluster is fit or there are warnings only, 2 if it is not or not all is known, and 1 if there is no
cluster.`,
		Example: `  # Before helm install
  mizzenctl install-check`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	flags := cmd.Flags()
	o.addCluster(flags)
	flags.StringVar(&o.system, "system-namespace", config.SystemNamespace, "namespace of the control plane")
	flags.StringVarP(&o.output, "output", "o", "table", wantOutput)
	return cmd
}

func (o *installCheckOptions) run(ctx context.Context, stdout io.Writer) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	c, err := o.connect(&o.clusterFlags)
	if err != nil {
		return err
	}
	v := readPlatform(ctx, c, o.system).view()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := write(stdout, o.output, v, func(p paint) string { return renderStatus(v, p) }); err != nil {
		return err
	}
	if bad := v.bad(); bad != "" {
		return &ExitError{exitNotWell, "not fit, or not known to be: " + bad}
	}
	return nil
}

// platform is what install-check judges.
type platform struct {
	system     string
	nodes      read[*corev1.NodeList]
	namespaces read[*corev1.NamespaceList]
	crds       read[*metav1.PartialObjectMetadataList]
	webhooks   read[*admissionv1.MutatingWebhookConfigurationList]
	sockets    read[[]finding]
	// controller and cni are Mizzen's own, if it is installed.
	controller read[*appsv1.Deployment]
	cni        read[*appsv1.DaemonSet]
}

// cniName is the name of the CNI plugin's DaemonSet.
const cniName = "mizzen-cni"

func readPlatform(ctx context.Context, c client.Client, system string) *platform {
	crds := &metav1.PartialObjectMetadataList{}
	crds.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinitionList"})
	sockets, err := checkSockets(ctx, c)
	return &platform{
		system:     system,
		nodes:      list(ctx, c, &corev1.NodeList{}, "Nodes"),
		namespaces: list(ctx, c, &corev1.NamespaceList{}, "Namespaces"),
		crds:       list(ctx, c, crds, "CustomResourceDefinitions"),
		webhooks:   list(ctx, c, &admissionv1.MutatingWebhookConfigurationList{}, "MutatingWebhookConfigurations"),
		sockets:    read[[]finding]{sockets, err},
		controller: get(ctx, c, client.ObjectKey{Namespace: system, Name: controllerName}, &appsv1.Deployment{}),
		cni:        get(ctx, c, client.ObjectKey{Namespace: system, Name: cniName}, &appsv1.DaemonSet{}),
	}
}

func list[T client.ObjectList](ctx context.Context, c client.Client, into T, what string) read[T] {
	err := c.List(ctx, into)
	if err != nil {
		err = fmt.Errorf("list %s: %w", what, err)
	}
	return read[T]{into, err}
}
