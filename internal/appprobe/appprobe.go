// Package appprobe is the contract between the injector, which points an application's probes and
// lifecycle hooks at the agent, and the agent, which carries them out against the application.
package appprobe

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
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

// Handler is what the agent carries out. Exactly one of the actions is set; ports are numbers.
type Handler struct {
	HTTPGet *corev1.HTTPGetAction `json:"httpGet,omitempty"`
	// TCPSocket is in pods of before alone: the kubelet carries these probes out itself.
	TCPSocket *corev1.TCPSocketAction `json:"tcpSocket,omitempty"`
	GRPC      *corev1.GRPCAction      `json:"grpc,omitempty"`
	// TimeoutSeconds bounds a probe. It is 0, no bound, for lifecycle hooks: Kubernetes gives them none
	// (postStart) or ends them itself (preStop, with the grace period).
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
}

// Handlers by agent path (Path).
type Handlers map[string]Handler

// Marshal gives the JSON for EnvVar, with keys in order.
func (h Handlers) Marshal() (string, error) {
	b, err := json.Marshal(h)
	return string(b), err
}

// Unmarshal reads what Marshal wrote; an empty string is no handlers.
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
