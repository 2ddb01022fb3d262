package config

import "github.com/mizzen-mesh/mizzen/config/fixed"

// Group is the API group and the prefix of every label and annotation.
const Group = "mizzen.dev"

// ControllerName names Mizzen in GatewayClasses, and in the statuses of Gateway API objects.
const ControllerName = Group + "/controller"

// ControllerService is the name of the main control plane's Service and Deployment.
const ControllerService = "mizzen-controller"

// OfRevision returns the name that an object of the main control plane has in a revision. The main one is the empty revision.
func OfRevision(name, revision string) string {
	if revision == "" {
		return name
	}
	return name + "-" + revision
}

// GatewayAPIVersions begins the versions of the Gateway API's CRDs that Mizzen is made for.
const GatewayAPIVersions = "v1.6."

// GatewayFieldManager owns the fields of what a Gateway consists of, and is the label app.kubernetes.io/managed-by of it.
const GatewayFieldManager = "mizzen-gateway"

// What sidecars have, too: package fixed says what each is.
const (
	OutboundPort = fixed.OutboundPort
	InboundPort  = fixed.InboundPort
	AgentPort    = fixed.AgentPort

	ProxyUID       = fixed.ProxyUID
	CallPriority   = fixed.CallPriority
	CallerPriority = fixed.CallerPriority

	SocketLoadBalancingRemedy = fixed.SocketLoadBalancingRemedy
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

// Container and volume names that injection adds to a pod.
const (
	CaptureContainer = fixed.CaptureContainer
	ProxyContainer   = "mizzen-proxy"
	// ProxyVolume is the name of the emptyDir at fixed.ProxyDir that earlier versions injected.
	ProxyVolume = "mizzen-proxy"
	// TokenVolume has the service account token with which the agent asks for a certificate. It is mounted at TokenDir.
	TokenVolume = "mizzen-token"
	TokenDir    = fixed.TokenDir
	TokenFile   = fixed.TokenFile
)

// SystemNamespace is where the control plane is installed unless the chart says otherwise.
const SystemNamespace = "mizzen-system"
