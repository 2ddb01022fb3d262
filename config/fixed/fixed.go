// Package fixed has the ports, names and numbers of a sidecar that nobody can set, and on which its parts in the pod and the
// control plane agree. Programs that run in pods take them from here and not from package config, which depends on the
// Kubernetes API types: these would cost every pod megabytes. It imports the standard library only.
package fixed

import "slices"

// Ports of the sidecar. They lie in the range that Envoy meshes commonly keep clear of applications.
const (
	// OutboundPort is Envoy's port for captured outbound TCP connections.
	OutboundPort = 15001
	// InboundPort is Envoy's port for captured inbound TCP connections.
	InboundPort = 15006
	// AgentPort is the agent's HTTP port: /readyz, /metrics, the forwarded application probes, and /debug for loopback.
	AgentPort = 15020
	// EndsPort is a UDP port of loopback on which nobody listens. The agent sends there the addresses of connections to
	// end, and the capture rules read these datagrams.
	EndsPort = 15022
)

// ProxyUID is the user that Envoy and its agent run as. Traffic of this user is never captured, so
// no other container of a pod may use it.
const ProxyUID = 1337

// CallPriority is the SO_PRIORITY by which the capture rules distinguish connections that the sidecar makes for calls
// of the application from connections that it makes to the application. It does not leave the node, and the kernel
// treats it like no priority (TC_PRIO_INTERACTIVE_BULK; a higher one than 6 needs a capability).
// https://man7.org/linux/man-pages/man7/socket.7.html
const CallPriority = 4

// CallerPriority is the SO_PRIORITY of a connection that the sidecar makes to the application with a caller's address
// as its source. The sidecar connects to the caller's address, and the capture rules turn the connection around.
const CallerPriority = 5

const (
	// CaptureContainer is the init container that writes the capture rules.
	CaptureContainer = "mizzen-capture"
	// ProxyDir is a directory of the proxy's image that belongs to the proxy's user. Bootstrap and sockets are there,
	// in the container's file system. It is not a volume, because kubectl drain refuses pods with an emptyDir.
	ProxyDir = "/run/mizzen"
	// KeepDir is a directory that survives a restart of the container without being a volume. The agent stores the
	// newest roots there. All containers of the pod share it.
	KeepDir = "/dev/shm"
	// TokenDir has the service account token with which the agent asks for a certificate.
	TokenDir = "/var/run/secrets/mizzen.dev"
	// TokenFile is the token's name there.
	TokenFile = "token"
)

// Configuration scopes: which Services a sidecar is sent ahead of the first call.
const (
	ScopeAll       = "all"       // every Service
	ScopeNamespace = "namespace" // those of its own namespace, whatever its size
	ScopeDemand    = "demand"    // none
)

// ConfigScopes are the allowed configuration scopes of a sidecar, besides empty for automatic.
var ConfigScopes = []string{ScopeAll, ScopeNamespace, ScopeDemand}

// ValidConfigScope reports whether a scope is empty or one of ConfigScopes.
func ValidConfigScope(scope string) bool { return scope == "" || slices.Contains(ConfigScopes, scope) }

// SocketLoadBalancingRemedy names the settings with which kube-proxy replacements leave Services' addresses to
// sidecars.
// https://docs.cilium.io/en/stable/network/servicemesh/istio/
// https://docs.tigera.io/calico/latest/reference/resources/felixconfig
const SocketLoadBalancingRemedy = "Cilium: socketLB.hostNamespaceOnly=true; Calico: bpfConnectTimeLoadBalancing: Disabled"
