package webhook

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

// action is what the agent carries out for the kubelet. The agent reads it as appprobe.Handler.
type action struct {
	HTTPGet        *corev1.HTTPGetAction   `json:"httpGet,omitempty"`
	TCPSocket      *corev1.TCPSocketAction `json:"tcpSocket,omitempty"`
	GRPC           *corev1.GRPCAction      `json:"grpc,omitempty"`
	TimeoutSeconds int32                   `json:"timeoutSeconds,omitempty"`
}

// actions by agent path (appprobe.Path).
type actions map[string]action

// marshal returns the JSON for appprobe.EnvVar, with keys in order.
func (a actions) marshal() (string, error) {
	b, err := json.Marshal(a)
	return string(b), err
}

// readActions reads what marshal wrote; an empty string is no actions.
func readActions(s string) (actions, error) {
	a := actions{}
	if s == "" {
		return a, nil
	}
	if err := json.Unmarshal([]byte(s), &a); err != nil {
		return nil, fmt.Errorf("%s: %w", appprobe.EnvVar, err)
	}
	return a, nil
}
