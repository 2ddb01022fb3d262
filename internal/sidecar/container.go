package sidecar

import (
	"fmt"
	"net"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// MetricsPort is the name under which scrapers find the agent's port.
const MetricsPort = "mizzen-metrics"

// tokenLife is the lifetime of a token in seconds. The kubelet replaces the token after 80 % of it.
// https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#launch-a-pod-using-service-account-token-projection
const tokenLife = 3600

// RestrictedSecurity returns the security context of a container that may do nothing. It also sets user and group, so that
// the pod's securityContext does not apply.
func RestrictedSecurity(id int64) *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsUser:                new(id),
		RunAsGroup:               new(id),
		RunAsNonRoot:             new(true),
		ReadOnlyRootFilesystem:   new(true),
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// ProxySecurity returns the security context of the container that runs the agent and Envoy.
func ProxySecurity() *corev1.SecurityContext {
	security := RestrictedSecurity(config.ProxyUID)
	security.ReadOnlyRootFilesystem = new(false) // fixed.ProxyDir
	return security
}

// ProxyEnv returns the variables of the agent that come from the pod, and its workload, <kind>/<name>, unless it is empty.
func ProxyEnv(workload string) []corev1.EnvVar {
	var env []corev1.EnvVar
	for _, f := range contract.PodFields {
		env = append(env, FieldEnv(f.Name, f.Path))
	}
	if workload != "" {
		env = append(env, corev1.EnvVar{Name: contract.WorkloadEnv, Value: workload})
	}
	return env
}

// FieldEnv returns a variable with the value of a field of the pod.
func FieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
	}}
}

// IdentityAddress returns the host:port of the identity server of a control plane.
func IdentityAddress(controlPlane string) (string, error) {
	host, _, err := net.SplitHostPort(controlPlane)
	if err != nil {
		return "", fmt.Errorf("controlPlaneAddress: %q: want <host>:<port>", controlPlane)
	}
	return net.JoinHostPort(host, strconv.Itoa(config.IdentityPort)), nil
}

// TokenVolume returns a volume with a token for the control plane. With its audience, the API server itself does not accept it.
func TokenVolume(audience string) corev1.Volume {
	return corev1.Volume{Name: config.TokenVolume, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
			ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: audience, ExpirationSeconds: new(int64(tokenLife)), Path: config.TokenFile,
			},
		}}},
	}}
}

// TokenMount returns the mount of TokenVolume.
func TokenMount() corev1.VolumeMount {
	return corev1.VolumeMount{Name: config.TokenVolume, MountPath: config.TokenDir, ReadOnly: true}
}
