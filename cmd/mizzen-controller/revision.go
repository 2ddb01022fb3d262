package main

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
)

// mainConfig is the ConfigMap with the configuration of the main control plane, under the key mainConfigKey.
const mainConfig, mainConfigKey = "mizzen-mesh", "mesh.yaml"

// checkRevision compares what a revision must have in common with the main control plane of its namespace, and what it must not. Other versions may know other
// fields, so it reads only those. The error names the field, both values and where they are.
func checkRevision(ctx context.Context, live client.Reader, namespace string, mesh *config.Mesh) error {
	var object corev1.ConfigMap
	key := types.NamespacedName{Namespace: namespace, Name: mainConfig}
	if err := live.Get(ctx, key, &object); err != nil {
		return fmt.Errorf("revision %s: the configuration of the main control plane, which a revision stands beside: %w", mesh.Revision, err)
	}
	var main struct {
		ClusterDomain, TrustDomain, ControlPlaneAddress string
		Identity                                        struct{ Enabled *bool }
	}
	if err := yaml.Unmarshal([]byte(object.Data[mainConfigKey]), &main); err != nil {
		return fmt.Errorf("revision %s: ConfigMap %s, key %s: %w", mesh.Revision, key, mainConfigKey, err)
	}
	differs := func(field string, own, want any) error {
		return fmt.Errorf("revision %s: mesh.%s: %v: want %v, as the main control plane has it (ConfigMap %s)", mesh.Revision, field, own, want, key)
	}
	switch {
	case main.ClusterDomain != "" && main.ClusterDomain != mesh.ClusterDomain:
		return differs("clusterDomain", mesh.ClusterDomain, main.ClusterDomain)
	case main.TrustDomain != "" && main.TrustDomain != mesh.TrustDomain:
		return differs("trustDomain", mesh.TrustDomain, main.TrustDomain)
	case main.Identity.Enabled != nil && *main.Identity.Enabled != *mesh.Identity.Enabled:
		return differs("identity.enabled", *mesh.Identity.Enabled, *main.Identity.Enabled)
	case main.ControlPlaneAddress == mesh.ControlPlaneAddress:
		return fmt.Errorf("revision %s: mesh.controlPlaneAddress: %s: want another one than that of the main control plane (ConfigMap %s), to which its sidecars would go",
			mesh.Revision, mesh.ControlPlaneAddress, key)
	}
	return nil
}
