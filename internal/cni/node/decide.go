// Package node is the CNI plugin's process on a node. It tells the plugin which pods to capture and how, and captures
// pods that the plugin missed.
//
// It may import internal/cni/api, internal/capture and internal/sidecar.
package node

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/cni/api"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Decide decides what the plugin does with a pod. It is pure. The error describes bad arguments of the sidecar.
func Decide(pod *corev1.Pod) (api.Answer, error) {
	switch {
	case !sidecar.Has(pod):
		return api.Answer{Reason: "it has no sidecar"}, nil
	case !sidecar.CapturedByCNI(pod):
		return api.Answer{Reason: "its init container captures the traffic"}, nil
	}
	s := capture.Default()
	var err error
	if s.Captured, err = sidecar.Captured(&pod.Spec); err != nil {
		return api.Answer{}, fmt.Errorf("the sidecar's arguments: %w", err)
	}
	return api.Answer{Capture: &s}, nil
}
