package webhook

import (
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

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
	address, err := sidecar.IdentityAddress(controlPlane)
	if err != nil {
		return err
	}
	if !contract.IsSet(proxy.Args, contract.IdentityAddressFlag) {
		proxy.Args = append(proxy.Args, contract.Arg(contract.IdentityAddressFlag, address))
	}
	setEnv(proxy, contract.TrustBundleEnv, string(trustBundle))
	if !hasIdentity(proxy) {
		proxy.VolumeMounts = append(proxy.VolumeMounts, sidecar.TokenMount())
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
	spec.Volumes = append(spec.Volumes, sidecar.TokenVolume(api.Audience))
}
