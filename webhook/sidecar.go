package webhook

import (
	"math"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

// metricsPort is the name under which scrapers find the agent's port.
const metricsPort = "mizzen-metrics"

// awaitSidecarFlag has the capture container hold the pod's start until the sidecar is ready.
const awaitSidecarFlag = "--await-sidecar"

// captureContainer writes the nftables rules and ends when the sidecar is ready: it holds the pod's start. No hook or probe of
// the sidecar itself does that as well. A postStart hook keeps the kubelet from saying anything about the pod, and fails into
// a back-off; a startup probe is looked at once a second.
func captureContainer(s config.Sidecar, identity bool) corev1.Container {
	args := append([]string{
		"capture",
		"--proxy-uid=" + strconv.Itoa(config.ProxyUID),
		"--outbound-port=" + strconv.Itoa(config.OutboundPort),
		"--inbound-port=" + strconv.Itoa(config.InboundPort),
	}, captured(s, identity)...)
	args = append(args, awaitSidecarFlag)
	var env []corev1.EnvVar
	if identity {
		args = append(args, "--node-addresses=$(HOST_IPS)")
		env = append(env, fieldEnv("HOST_IPS", "status.hostIPs"))
	}
	security := restrictedSecurity(0)
	security.RunAsNonRoot = new(false)
	security.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
	return corev1.Container{
		Name:                     config.CaptureContainer,
		Image:                    s.Image,
		ImagePullPolicy:          s.ImagePullPolicy,
		Args:                     args,
		Env:                      env,
		SecurityContext:          security,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// captureMemory is what the capture container needs.
var captureMemory = resource.MustParse("32Mi")

// captureResources are those of the application's first container. The capture container runs beside the proxy and before the
// application, and a pod's request is the larger of its init phase and its running phase: so it costs nothing, a
// pod that is Guaranteed stays so, and what quotas and limits of the namespace want of the application it has, too.
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

// capturedByCNI has a proxy wait for the node's CNI plugin, and hold the pod's start itself: there is no other container that
// could. The kubelet looks once a second, and for as long as it takes.
func capturedByCNI(proxy corev1.Container, captured []string) corev1.Container {
	proxy.Args = append(append(proxy.Args, config.CaptureByCNIFlag), captured...)
	proxy.StartupProbe = proxy.ReadinessProbe.DeepCopy()
	proxy.StartupProbe.PeriodSeconds, proxy.StartupProbe.FailureThreshold = 1, math.MaxInt32
	return proxy
}

// captured are the arguments that say what is captured, for the init container or for the node's CNI plugin.
func captured(s config.Sidecar, identity bool) []string {
	args := []string{
		// The kubelet and scrapers reach the agent directly.
		"--exclude-inbound-ports=" + joinPorts(append([]int32{config.AgentPort}, s.ExcludeInboundPorts...)),
	}
	if identity {
		args = append(args, "--capture-own-calls")
	}
	if len(s.ExcludeOutboundPorts) > 0 {
		args = append(args, "--exclude-outbound-ports="+joinPorts(s.ExcludeOutboundPorts))
	}
	if len(s.ExcludeOutboundCIDRs) > 0 {
		args = append(args, "--exclude-outbound-cidrs="+strings.Join(s.ExcludeOutboundCIDRs, ","))
	}
	return args
}

// proxyContainer runs the agent, which runs Envoy. As a native sidecar it is up before the pod's own
// init containers start, and stops after the application.
func proxyContainer(cfg *config.Mesh, s config.Sidecar, workload string, identity bool) corev1.Container {
	args := []string{
		"run",
		"--control-plane=" + cfg.ControlPlaneAddress,
		"--log-level=" + s.LogLevel,
		"--concurrency=" + strconv.Itoa(int(*s.Concurrency)),
	}
	if s.ConfigScope != "" {
		args = append(args, "--config-scope="+s.ConfigScope)
	}
	if identity {
		args = append(args, "--await-capture")
	}
	if s.LogAnswers {
		args = append(args, "--log-answers")
	}
	env := []corev1.EnvVar{
		fieldEnv("POD_NAME", "metadata.name"),
		fieldEnv("POD_NAMESPACE", "metadata.namespace"),
		fieldEnv("POD_UID", "metadata.uid"),
		fieldEnv("SERVICE_ACCOUNT", "spec.serviceAccountName"),
		fieldEnv("NODE_NAME", "spec.nodeName"),
		fieldEnv("POD_IPS", "status.podIPs"),
	}
	if workload != "" {
		env = append(env, corev1.EnvVar{Name: "WORKLOAD", Value: workload})
	}
	security := restrictedSecurity(config.ProxyUID)
	security.ReadOnlyRootFilesystem = new(false) // config.ProxyDir
	return corev1.Container{
		Name:            config.ProxyContainer,
		Image:           s.Image,
		ImagePullPolicy: s.ImagePullPolicy,
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		Args:            args,
		Env:             env,
		Ports:           []corev1.ContainerPort{{Name: metricsPort, ContainerPort: config.AgentPort, Protocol: corev1.ProtocolTCP}},
		ReadinessProbe: &corev1.Probe{
			// gRPC, because what it answers stands in the pod's events.
			ProbeHandler:     corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: config.AgentPort, Service: new("")}},
			PeriodSeconds:    2,
			TimeoutSeconds:   3, // a starved node must not make a healthy pod unready
			FailureThreshold: 3,
		},
		Resources:                *s.Resources.DeepCopy(),
		SecurityContext:          security,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// restrictedSecurity sets user and group too, so that nothing of the pod's own securityContext applies.
func restrictedSecurity(id int64) *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsUser:                new(id),
		RunAsGroup:               new(id),
		RunAsNonRoot:             new(true),
		ReadOnlyRootFilesystem:   new(true),
		AllowPrivilegeEscalation: new(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{
		FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path},
	}}
}

// setHandlers writes the environment variables that the agent reads, or removes them if nothing is left.
func setHandlers(proxy *corev1.Container, handlers appprobe.Handlers, key string) error {
	if len(handlers) == 0 {
		proxy.Env = slices.DeleteFunc(proxy.Env, func(e corev1.EnvVar) bool { return e.Name == appprobe.EnvVar || e.Name == appprobe.KeyEnv })
		return nil
	}
	value, err := handlers.Marshal()
	if err != nil {
		return err
	}
	// In a variable's value Kubernetes replaces "$(NAME)" and "$$", which a probe's path may well hold.
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

// addPodResources raises the budget of a pod that has one (spec.resources, Kubernetes 1.34) by the
// sidecar's share: Kubernetes refuses containers whose requests exceed it. pod has no sidecar yet.
func addPodResources(pod *corev1.Pod, r corev1.ResourceRequirements) {
	budget := pod.Spec.Resources
	if budget == nil {
		return
	}
	// Since Kubernetes 1.37 a request that is left out is made after the webhooks: from the containers' requests if one
	// of them has any. The sidecar's would become that of the whole pod, where without it the limit would.
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

// takePodResources takes the sidecar's share out again.
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

func joinPorts(ports []int32) string {
	texts := make([]string, len(ports))
	for i, port := range ports {
		texts[i] = strconv.Itoa(int(port))
	}
	return strings.Join(texts, ",")
}
