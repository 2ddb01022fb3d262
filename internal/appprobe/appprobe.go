// Package appprobe is the contract between the injector, which points an application's probes and
// lifecycle hooks at the agent, and the agent, which carries them out against the application. It imports the standard
// library only.
package appprobe

import (
	"encoding/json"
	"fmt"
)

// EnvVar holds the handlers as JSON in the proxy container's environment.
const EnvVar = "MIZZEN_APP_PROBES"

// KeyHeader is sent by the kubelet, because the forwarded probe says so, with the value of the variable KeyEnv in
// the proxy container's environment. Without it the agent carries nothing out: a preStop hook is not for
// other pods to call.
const (
	KeyHeader = "X-Mizzen-Probe-Key"
	KeyEnv    = "MIZZEN_APP_PROBES_KEY"
)

// PathPrefix begins every forwarded path on the agent's port.
const PathPrefix = "/app-health/"

// Kind is the last segment of a forwarded path.
type Kind string

// The probes and lifecycle hooks that can be forwarded.
const (
	Liveness  Kind = "livez"
	Readiness Kind = "readyz"
	Startup   Kind = "startupz"
	PostStart Kind = "poststart"
	PreStop   Kind = "prestop"
)

// Path is the agent's path for one container's probe or hook: "/app-health/<container>/<kind>".
func Path(container string, kind Kind) string {
	return PathPrefix + container + "/" + string(kind)
}

// Handler is what the agent carries out. Exactly one of the actions is set. The injector writes the Kubernetes API's own types
// as JSON, with numbers for ports. These read the same without the API types, which would cost every pod megabytes.
type Handler struct {
	HTTPGet *HTTPGet `json:"httpGet,omitempty"`
	// TCPSocket is in pods of before alone: the kubelet carries these probes out itself.
	TCPSocket *TCPSocket `json:"tcpSocket,omitempty"`
	GRPC      *GRPC      `json:"grpc,omitempty"`
	// TimeoutSeconds bounds a probe. It is 0, no bound, for lifecycle hooks: Kubernetes gives them none
	// (postStart) or ends them itself (preStop, with the grace period).
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
}

// Port is the application's port that is called.
func (h Handler) Port() int32 {
	switch {
	case h.HTTPGet != nil:
		return h.HTTPGet.Port
	case h.TCPSocket != nil:
		return h.TCPSocket.Port
	default:
		return h.GRPC.Port
	}
}

// HTTPGet is corev1.HTTPGetAction.
type HTTPGet struct {
	Path string `json:"path,omitempty"`
	Port int32  `json:"port"`
	Host string `json:"host,omitempty"`
	// Scheme is SchemeHTTPS, or else HTTP.
	Scheme      string       `json:"scheme,omitempty"`
	HTTPHeaders []HTTPHeader `json:"httpHeaders,omitempty"`
	// Protocol is ProtocolHTTP2, or else HTTP/1.1.
	Protocol string `json:"protocol,omitempty"`
}

// HTTPHeader is corev1.HTTPHeader.
type HTTPHeader struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// TCPSocket is corev1.TCPSocketAction.
type TCPSocket struct {
	Port int32  `json:"port"`
	Host string `json:"host,omitempty"`
}

// GRPC is corev1.GRPCAction.
type GRPC struct {
	Port    int32  `json:"port"`
	Service string `json:"service"`
	// Mode is ModeTLS, or else plain text.
	Mode string `json:"mode,omitempty"`
}

// Values of the Kubernetes API.
const (
	SchemeHTTPS   = "HTTPS"
	ProtocolHTTP2 = "HTTP2"
	ModeTLS       = "TLS"
)

// Handlers by agent path (Path).
type Handlers map[string]Handler

// Unmarshal reads EnvVar; an empty string is no handlers.
func Unmarshal(s string) (Handlers, error) {
	h := Handlers{}
	if s == "" {
		return h, nil
	}
	if err := json.Unmarshal([]byte(s), &h); err != nil {
		return nil, fmt.Errorf("%s: %w", EnvVar, err)
	}
	return h, nil
}
