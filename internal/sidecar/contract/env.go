package contract

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// HostIPsEnv has the addresses of the pod's node, for the container that captures.
const HostIPsEnv = "HOST_IPS"

// HostIPsPath is the field of the pod for HostIPsEnv.
const HostIPsPath = "status.hostIPs"

// Variables of the proxy, beside PodFields. internal/appprobe has those of probes.
const (
	// WorkloadEnv is what the pod belongs to, <kind>/<name>.
	WorkloadEnv = "WORKLOAD"
	// TrustBundleEnv holds the mesh's roots, PEM, as they were at injection. A sidecar without it has no identity.
	TrustBundleEnv = "MIZZEN_TRUST_BUNDLE"
	// KeepKeyEnv is the key by which the agent knows what it has kept in config.KeepDir. Without it nothing is kept.
	KeepKeyEnv = "MIZZEN_KEEP_KEY"
)

const (
	podNameEnv        = "POD_NAME"
	podNamespaceEnv   = "POD_NAMESPACE"
	podUIDEnv         = "POD_UID"
	serviceAccountEnv = "SERVICE_ACCOUNT"
	nodeNameEnv       = "NODE_NAME"
	podIPsEnv         = "POD_IPS"
)

// PodFields are the variables of the proxy that Kubernetes takes from a field of the pod.
var PodFields = []struct{ Name, Path string }{
	{podNameEnv, "metadata.name"},
	{podNamespaceEnv, "metadata.namespace"},
	{podUIDEnv, "metadata.uid"},
	{serviceAccountEnv, "spec.serviceAccountName"},
	{nodeNameEnv, "spec.nodeName"},
	{podIPsEnv, "status.podIPs"},
}

// Env is what the proxy is told by its environment.
type Env struct {
	Pod, Namespace, UID, ServiceAccount string
	IPs                                 []netip.Addr
	// NodeName, Workload, TrustBundle and KeepKey may be empty.
	NodeName, Workload, TrustBundle, KeepKey string
}

// ReadEnv reads the environment. Every error names the variable.
func ReadEnv(getenv func(string) string) (Env, error) {
	var errs []error
	required := func(name string) string {
		value := getenv(name)
		if value == "" {
			errs = append(errs, fmt.Errorf("environment variable %s is not set", name))
		}
		return value
	}
	e := Env{
		Pod: required(podNameEnv), Namespace: required(podNamespaceEnv), UID: required(podUIDEnv), ServiceAccount: required(serviceAccountEnv),
		NodeName: getenv(nodeNameEnv), Workload: getenv(WorkloadEnv), TrustBundle: getenv(TrustBundleEnv), KeepKey: getenv(KeepKeyEnv),
	}
	if ips := required(podIPsEnv); ips != "" {
		for ip := range strings.SplitSeq(ips, ",") {
			addr, err := netip.ParseAddr(ip)
			if err != nil {
				errs = append(errs, fmt.Errorf("environment variable %s: %q: want IP addresses, separated by commas", podIPsEnv, ip))
				continue
			}
			e.IPs = append(e.IPs, addr)
		}
	}
	return e, errors.Join(errs...)
}
