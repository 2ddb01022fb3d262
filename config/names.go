package config

// Group is the API group and the prefix of every label and annotation.
const Group = "mizzen.dev"

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

// Ports of the control plane.
const (
	// XDSPort serves delta ADS over gRPC.
	XDSPort = 15010
	// IdentityPort signs certificates and serves the trust bundle over HTTPS (internal/identity/api).
	IdentityPort = 15012
	// WebhookPort serves the admission webhook over HTTPS.
	WebhookPort = 9443
	// ControllerHTTPPort serves /metrics, /healthz, /readyz and /debug/ of the control plane.
	ControllerHTTPPort = 15014
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

// Container and volume names that injection adds to a pod.
const (
	CaptureContainer = "mizzen-capture"
	ProxyContainer   = "mizzen-proxy"
	// ProxyDir is a directory of the proxy's image that belongs to the proxy's user. Bootstrap and sockets are there,
	// in the container's file system. It is not a volume, because kubectl drain refuses pods with an emptyDir.
	ProxyDir = "/run/mizzen"
	// ProxyVolume is the name of the emptyDir at ProxyDir that earlier versions injected.
	ProxyVolume = "mizzen-proxy"
	// KeepDir is a directory that survives a restart of the container without being a volume. The agent stores the
	// newest roots there. All containers of the pod share it.
	KeepDir = "/dev/shm"
	// TokenVolume has the service account token with which the agent asks for a certificate. It is mounted at TokenDir.
	TokenVolume = "mizzen-token"
	TokenDir    = "/var/run/secrets/mizzen.dev"
	TokenFile   = "token"
)

// SystemNamespace is where the control plane is installed unless the chart says otherwise.
const SystemNamespace = "mizzen-system"
