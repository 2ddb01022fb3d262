package webhook

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// tokenLife is the lifetime of a token in seconds. The kubelet replaces the token after 80 % of it.
// https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/#launch-a-pod-using-service-account-token-projection
const tokenLife = 3600

// CheckTrustBundle returns an error unless the text is PEM with at least one CA certificate and nothing else.
func CheckTrustBundle(bundle []byte) error {
	certs, err := ca.ParseCertificates(bundle)
	switch {
	case err != nil:
		return fmt.Errorf("trust bundle: %w", err)
	case len(certs) == 0:
		return errors.New("trust bundle: no certificate; want at least one")
	case len(bundle) > api.MaxBody:
		return fmt.Errorf("trust bundle: %d bytes, want at most %d", len(bundle), api.MaxBody)
	}
	for _, c := range certs {
		if !c.IsCA {
			return fmt.Errorf("trust bundle: certificate %q %w", c.Subject.CommonName, ca.ErrNotCA)
		}
	}
	return nil
}

// addIdentity adds what the proxy needs to ask for a certificate. It also updates the roots of a pod that was injected
// long ago, for example in a file from mizzenctl. It adds the rest only if it is missing.
func addIdentity(proxy *corev1.Container, controlPlane string, trustBundle []byte) error {
	host, _, err := net.SplitHostPort(controlPlane)
	if err != nil {
		return fmt.Errorf("controlPlaneAddress: %q: want <host>:<port>", controlPlane)
	}
	if !contract.IsSet(proxy.Args, contract.IdentityAddressFlag) {
		proxy.Args = append(proxy.Args, contract.Arg(contract.IdentityAddressFlag, net.JoinHostPort(host, strconv.Itoa(config.IdentityPort))))
	}
	setEnv(proxy, contract.TrustBundleEnv, string(trustBundle))
	if !hasIdentity(proxy) {
		proxy.VolumeMounts = append(proxy.VolumeMounts, corev1.VolumeMount{
			Name: config.TokenVolume, MountPath: config.TokenDir, ReadOnly: true,
		})
	}
	return nil
}

func hasIdentity(proxy *corev1.Container) bool {
	return slices.ContainsFunc(proxy.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == config.TokenVolume })
}

// addKeepKey lets the sidecar keep the newest roots for a restart of its container. It does not do so in the node's IPC
// namespace, where they would stay for ever.
func addKeepKey(spec *corev1.PodSpec, proxy *corev1.Container, key string) {
	if !spec.HostIPC && envValue(proxy, contract.KeepKeyEnv) == "" {
		setEnv(proxy, contract.KeepKeyEnv, key)
	}
}

// addTokenVolume adds a token for the control plane, which the API server itself does not accept. No other container
// mounts it.
func addTokenVolume(spec *corev1.PodSpec) {
	if slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == config.TokenVolume }) {
		return
	}
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: config.TokenVolume, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{
			ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: api.Audience, ExpirationSeconds: new(int64(tokenLife)), Path: config.TokenFile,
			},
		}}},
	}})
}
