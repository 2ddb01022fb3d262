package webhook

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// captureContainer writes the nftables rules and ends when the sidecar is ready, so that it holds the pod's start.
// Hooks and probes of the sidecar are worse at that. While a postStart hook runs, the kubelet reports nothing about the
// pod, and a failure leads to a back-off. A startup probe runs only once a second.
func captureContainer(s config.Sidecar, captured contract.Captured) corev1.Container {
	capture := contract.DefaultCapture()
	capture.Captured = captured
	var env []corev1.EnvVar
	if captured.CapturesOwnCalls {
		env = append(env, sidecar.FieldEnv(contract.HostIPsEnv, contract.HostIPsPath))
	}
	security := sidecar.RestrictedSecurity(0)
	security.RunAsNonRoot = new(false)
	security.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
	return corev1.Container{
		Name:                     config.CaptureContainer,
		Image:                    s.Image,
		ImagePullPolicy:          s.ImagePullPolicy,
		Args:                     capture.Args(),
		Env:                      env,
		SecurityContext:          security,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// captureMemory is the memory that the capture container needs.
var captureMemory = resource.MustParse("32Mi")

// captureResources returns the resources of the application's first container. The capture container runs beside the
// proxy and before the application, and a pod's request is the larger of its init phase and its running phase. So the
// capture container costs nothing, a Guaranteed pod stays Guaranteed, and the container meets the namespace's quotas
// and limits like the application.
func captureResources(apps []corev1.Container) corev1.ResourceRequirements {
	var out corev1.ResourceRequirements
	if len(apps) == 0 {
		return out
	}
	of := func(list corev1.ResourceList) corev1.ResourceList {
		var kept corev1.ResourceList
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage} {
			quantity, ok := list[name]
			if !ok {
				continue
			}
			if kept == nil {
				kept = corev1.ResourceList{}
			}
			kept[name] = quantity.DeepCopy()
		}
		return kept
	}
	out.Requests, out.Limits = of(apps[0].Resources.Requests), of(apps[0].Resources.Limits)
	if limit, ok := out.Limits[corev1.ResourceMemory]; ok && limit.Cmp(captureMemory) < 0 {
		out.Limits[corev1.ResourceMemory] = captureMemory
		if request, ok := out.Requests[corev1.ResourceMemory]; ok && request.Cmp(limit) == 0 {
			out.Requests[corev1.ResourceMemory] = captureMemory
		}
	}
	return out
}

// holdsStart adds a startup probe to a proxy that waits for the node's CNI plugin. The proxy must hold the pod's start
// itself, because no other container could. The kubelet probes once a second, for as long as necessary.
func holdsStart(proxy corev1.Container) corev1.Container {
	proxy.StartupProbe = proxy.ReadinessProbe.DeepCopy()
	proxy.StartupProbe.PeriodSeconds, proxy.StartupProbe.FailureThreshold = 1, math.MaxInt32
	return proxy
}

// captured returns what to capture, for the init container or for the node's CNI plugin.
func captured(s config.Sidecar, identity bool) (contract.Captured, error) {
	c := contract.Captured{
		CapturesOwnCalls: identity,
		// The kubelet and scrapers reach the agent directly.
		ExcludeInboundPorts: append([]uint16{config.AgentPort}, portNumbers(s.ExcludeInboundPorts)...), ExcludeOutboundPorts: portNumbers(s.ExcludeOutboundPorts),
	}
	for _, text := range s.ExcludeOutboundCIDRs {
		cidr, err := netip.ParsePrefix(text)
		if err != nil { // the configuration is valid
			return c, fmt.Errorf("excludeOutboundCIDRs: %w", err)
		}
		c.ExcludeOutboundCIDRs = append(c.ExcludeOutboundCIDRs, cidr)
	}
	return c, nil
}

// proxyContainer runs the agent, which runs Envoy. As a native sidecar it starts before the pod's own init containers,
// and stops after the application.
func proxyContainer(s config.Sidecar, args []string, workload string) corev1.Container {
	return corev1.Container{
		Name:            config.ProxyContainer,
		Image:           s.Image,
		ImagePullPolicy: s.ImagePullPolicy,
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		Args:            args,
		Env:             sidecar.ProxyEnv(workload),
		Ports:           []corev1.ContainerPort{{Name: sidecar.MetricsPort, ContainerPort: config.AgentPort, Protocol: corev1.ProtocolTCP}},
		ReadinessProbe: &corev1.Probe{
			// gRPC, because the pod's events show the text of its answer.
			ProbeHandler:  corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: config.AgentPort, Service: new("")}},
			PeriodSeconds: 2,
			// A starting sidecar answers when it is ready, or shortly before this timeout, so that it gets few probes
			// while the control plane is unreachable. The timeout is long, so that a node without free CPU does not
			// make a healthy pod unready.
			TimeoutSeconds:   6,
			FailureThreshold: 3,
		},
		Resources:                *s.Resources.DeepCopy(),
		SecurityContext:          sidecar.ProxySecurity(),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// setHandlers writes the agent's environment variables for forwarded probes, or removes them if there are none.
func setHandlers(proxy *corev1.Container, handlers actions, key string) error {
	if len(handlers) == 0 {
		proxy.Env = slices.DeleteFunc(proxy.Env, func(e corev1.EnvVar) bool { return e.Name == appprobe.EnvVar || e.Name == appprobe.KeyEnv })
		return nil
	}
	value, err := handlers.marshal()
	if err != nil {
		return err
	}
	// Kubernetes replaces "$(NAME)" and "$$" in a variable's value, and a probe's path may contain them.
	setEnv(proxy, appprobe.EnvVar, strings.ReplaceAll(value, "$", `\u0024`))
	setEnv(proxy, appprobe.KeyEnv, key)
	return nil
}

func setEnv(c *corev1.Container, name, value string) {
	i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name })
	if i < 0 {
		c.Env = append(c.Env, corev1.EnvVar{Name: name, Value: value})
	} else {
		c.Env[i] = corev1.EnvVar{Name: name, Value: value}
	}
}

// addPodResources adds the sidecar's share to the resources of a pod that sets its own (spec.resources, Kubernetes
// 1.34). Kubernetes refuses containers whose requests exceed the pod's. pod has no sidecar yet.
func addPodResources(pod *corev1.Pod, r corev1.ResourceRequirements) {
	budget := pod.Spec.Resources
	if budget == nil {
		return
	}
	// Since Kubernetes 1.37 a pod's missing request is defaulted after the webhooks: from the containers' requests if
	// one of them has any, else from the pod's limit. Without this code the sidecar's request would become the request
	// of the whole pod.
	for name, limit := range budget.Limits {
		_, requested := budget.Requests[name]
		_, shared := r.Requests[name]
		if shared && !requested && !anyContainerAsks(pod, name) {
			if budget.Requests == nil {
				budget.Requests = corev1.ResourceList{}
			}
			budget.Requests[name] = limit
		}
	}
	changePodResources(&pod.Spec, r, (*resource.Quantity).Add)
}

// takePodResources subtracts the sidecar's share again.
func takePodResources(spec *corev1.PodSpec, r corev1.ResourceRequirements) {
	if spec.Resources != nil {
		changePodResources(spec, r, func(total *resource.Quantity, share resource.Quantity) {
			if total.Cmp(share) >= 0 {
				total.Sub(share)
			}
		})
	}
}

func changePodResources(spec *corev1.PodSpec, r corev1.ResourceRequirements, change func(*resource.Quantity, resource.Quantity)) {
	by := func(budget corev1.ResourceList, shares ...corev1.ResourceList) {
		for name, total := range budget {
			for _, share := range shares {
				if quantity, ok := share[name]; ok {
					change(&total, quantity)
					budget[name] = total
					break
				}
			}
		}
	}
	by(spec.Resources.Requests, r.Requests, r.Limits)
	by(spec.Resources.Limits, r.Limits, r.Requests)
}

// anyContainerAsks reports whether a container has a request, or a limit that becomes one.
func anyContainerAsks(pod *corev1.Pod, name corev1.ResourceName) bool {
	return slices.ContainsFunc(appContainers(&pod.Spec), func(app appContainer) bool {
		_, request := app.Resources.Requests[name]
		_, limit := app.Resources.Limits[name]
		return request || limit
	})
}

func portNumbers(ports []int32) []uint16 {
	var out []uint16
	for _, port := range ports {
		out = append(out, uint16(port)) // the configuration is valid
	}
	return out
}
