// Package sidecartest has a sidecar's containers for tests.
package sidecartest

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// Containers returns the containers of a sidecar with identity, with the fields that Mizzen reads.
func Containers(captureArgs ...string) []corev1.Container {
	return []corev1.Container{
		{Name: config.CaptureContainer, Args: append([]string{contract.CaptureCommand}, captureArgs...)},
		{
			Name: config.ProxyContainer, Args: []string{contract.RunCommand}, RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
			Env: []corev1.EnvVar{{Name: contract.TrustBundleEnv, Value: "roots"}},
		},
	}
}
