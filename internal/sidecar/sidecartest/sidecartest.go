// Package sidecartest gives tests the containers of a sidecar.
package sidecartest

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Containers are a sidecar's, with identity, as far as anybody but Kubernetes looks at them.
func Containers(captureArgs ...string) []corev1.Container {
	return []corev1.Container{
		{Name: config.CaptureContainer, Args: append([]string{"capture"}, captureArgs...)},
		{
			Name: config.ProxyContainer, Args: []string{"run"}, RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
			Env: []corev1.EnvVar{{Name: config.TrustBundleEnv, Value: "roots"}},
		},
	}
}
