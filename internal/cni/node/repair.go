package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/cni/api"
)

const (
	// repairPause is the interval of checks of pods whose sidecar waits.
	repairPause = time.Second
	// repairAll is the interval of checks of all pods, including running ones.
	repairAll = time.Minute
)

// Repair captures pods that the plugin missed: while this process was not running, before the runtime's configuration
// had the plugin's entry, or after somebody else had rewritten that configuration. Such a pod has started only its
// sidecar, which waits for the rules.
type Repair struct {
	// Pods returns the pods that the plugin captures.
	Pods func() []*corev1.Pod
	// Proc is the directory with the node's processes.
	Proc     string
	Recorder events.EventRecorder
	// Repaired and Failed count pods.
	Repaired, Failed func()
	Log              *slog.Logger
}

// NewRepair returns a Repair for the pods of a node, with the node's processes below /proc.
func NewRepair(pods *Pods) *Repair { return &Repair{Pods: pods.captured, Proc: "/proc"} }

// Run repairs until ctx ends.
func (r *Repair) Run(ctx context.Context) {
	tick := time.NewTicker(repairPause)
	defer tick.Stop()
	var all time.Time
	for {
		whole := time.Since(all) >= repairAll
		if whole {
			all = time.Now()
		}
		r.once(whole)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// once checks all pods, or those whose sidecar has not started.
func (r *Repair) once(all bool) {
	var pods []*corev1.Pod
	for _, pod := range r.Pods() {
		if all || !started(pod) {
			pods = append(pods, pod)
		}
	}
	if len(pods) == 0 {
		return
	}
	found, err := sandboxes(r.Proc)
	if err != nil {
		r.Log.Error("look for the processes of pods", "error", err)
		return
	}
	for _, pod := range pods {
		// A pod without a process or address is not connected to the network.
		if p, ok := found[string(pod.UID)]; ok && len(pod.Status.PodIPs) > 0 {
			r.pod(pod, p)
		}
	}
}

func (r *Repair) pod(pod *corev1.Pod, p process) {
	name := api.Pod{Namespace: pod.Namespace, Name: pod.Name}.String()
	answer, err := Decide(pod)
	if err != nil || answer.Capture == nil {
		return // the plugin has reported it
	}
	text, err := r.capture(*answer.Capture, p, pod)
	switch {
	case err != nil:
		r.Failed()
		r.Log.Error("not captured", "pod", name, "error", err)
		r.Recorder.Eventf(reference(pod), nil, corev1.EventTypeWarning, "NotCaptured", "Capturing",
			"the pod's traffic is not captured, so its sidecar waits: %v", err)
	case text != "":
		r.Repaired()
		r.Log.Warn("captured a pod that the plugin had missed", "pod", name, "rules", text)
		r.Recorder.Eventf(reference(pod), nil, corev1.EventTypeWarning, "CaptureRepaired", "Capturing",
			"the CNI plugin had not captured this pod, for example because mizzen-cni was not running on its node; the pod's traffic is captured now: %s", text)
	}
}

// capture writes the rules unless they exist, and returns a description of them.
func (r *Repair) capture(s capture.Settings, p process, pod *corev1.Pod) (string, error) {
	netns, err := netnsOf(r.Proc, p, string(pod.UID))
	if err != nil {
		return "", fmt.Errorf("the pod's network namespace: %w", err)
	}
	defer netns.Close()
	var text string
	err = netns.Do(func(ns.NetNS) error {
		if err := has(pod.Status.PodIPs); err != nil {
			return fmt.Errorf("process %d: %w", p.pid, err)
		}
		present, err := capture.Present()
		if err != nil || present {
			return err
		}
		installed, err := capture.Install(s)
		text = installed.Describe(s)
		return err
	})
	return text, err
}

// has returns an error unless the network namespace of this thread has the addresses of a pod. A process that the
// runtime has just started is on the node's network for a moment, and capture rules there would cut off the node.
func has(ips []corev1.PodIP) error {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return err
	}
	for _, ip := range ips {
		wanted := net.ParseIP(ip.IP)
		if !slices.ContainsFunc(addresses, func(a net.Addr) bool { n, ok := a.(*net.IPNet); return ok && n.IP.Equal(wanted) }) {
			return fmt.Errorf("its network has no address %s", ip.IP)
		}
	}
	return nil
}

func reference(pod *corev1.Pod) *corev1.ObjectReference {
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
}
