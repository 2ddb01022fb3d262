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
	// WorkloadEnv is the pod's workload, <kind>/<name>.
	WorkloadEnv = "WORKLOAD"
	// TrustBundleEnv has the mesh's roots at injection, in PEM. A sidecar without it has no identity.
	TrustBundleEnv = "MIZZEN_TRUST_BUNDLE"
	// KeepKeyEnv is the key with which the agent authenticates the roots that it stored in fixed.KeepDir. Without it
	// the agent stores nothing.
	KeepKeyEnv = "MIZZEN_KEEP_KEY"
	// RevisionEnv is the revision of the control plane that has injected the pod. The main one writes none. It is for readers of pods.
	RevisionEnv = "MIZZEN_REVISION"
)

const (
	podNameEnv        = "POD_NAME"
	podNamespaceEnv   = "POD_NAMESPACE"
	podUIDEnv         = "POD_UID"
	serviceAccountEnv = "SERVICE_ACCOUNT"
	nodeNameEnv       = "NODE_NAME"
	podIPsEnv         = "POD_IPS"
)

// PodFields are the proxy's variables with values from fields of the pod.
var PodFields = []struct{ Name, Path string }{
	{podNameEnv, "metadata.name"},
	{podNamespaceEnv, "metadata.namespace"},
	{podUIDEnv, "metadata.uid"},
	{serviceAccountEnv, "spec.serviceAccountName"},
	{nodeNameEnv, "spec.nodeName"},
	{podIPsEnv, "status.podIPs"},
}

// Env has the environment of the proxy.
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
