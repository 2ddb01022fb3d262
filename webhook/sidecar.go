package webhook

import (
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

// metricsPort is the name under which scrapers find the agent's port.
const metricsPort = "mizzen-metrics"

// captureContainer writes the nftables rules and ends. It gets the proxy's resources: a pod's request
// is the larger of its init phase and its running phase, so they cost nothing, and a pod that is
// Guaranteed stays so.
func captureContainer(s config.Sidecar, identity bool) corev1.Container {
	args := []string{
		"capture",
		"--proxy-uid=" + strconv.Itoa(config.ProxyUID),
		"--outbound-port=" + strconv.Itoa(config.OutboundPort),
		"--inbound-port=" + strconv.Itoa(config.InboundPort),
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
	security := restrictedSecurity(0)
	security.RunAsNonRoot = new(false)
	security.Capabilities.Add = []corev1.Capability{"NET_ADMIN"}
	return corev1.Container{
		Name:                     config.CaptureContainer,
		Image:                    s.Image,
		ImagePullPolicy:          s.ImagePullPolicy,
		Args:                     args,
		Resources:                *s.Resources.DeepCopy(),
		SecurityContext:          security,
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
}

// proxyContainer runs the agent, which runs Envoy. As a native sidecar it is up before the pod's own
// init containers start, and stops after the application.
func proxyContainer(cfg *config.Mesh, s config.Sidecar, workload string) corev1.Container {
	args := []string{
		"run",
		"--control-plane=" + cfg.ControlPlaneAddress,
		"--log-level=" + s.LogLevel,
		"--concurrency=" + strconv.Itoa(int(*s.Concurrency)),
	}
	if s.ConfigScope != "" {
		args = append(args, "--config-scope="+s.ConfigScope)
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
	return corev1.Container{
		Name:            config.ProxyContainer,
		Image:           s.Image,
		ImagePullPolicy: s.ImagePullPolicy,
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		Args:            args,
		Env:             env,
		Ports:           []corev1.ContainerPort{{Name: metricsPort, ContainerPort: config.AgentPort, Protocol: corev1.ProtocolTCP}},
		// Until it ends nothing after it in the pod starts. A startup probe would do the same a second
		// later: the kubelet looks at it once a second, and at its result a second after that.
		Lifecycle: &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{"/usr/local/bin/mizzen-proxy", "wait"}},
		}},
		ReadinessProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: "/readyz", Port: intstr.FromInt32(config.AgentPort), Scheme: corev1.URISchemeHTTP,
			}},
			PeriodSeconds:    2,
			TimeoutSeconds:   3, // a starved node must not make a healthy pod unready
			FailureThreshold: 3,
		},
		Resources:                *s.Resources.DeepCopy(),
		SecurityContext:          restrictedSecurity(config.ProxyUID),
		VolumeMounts:             []corev1.VolumeMount{{Name: config.ProxyVolume, MountPath: config.ProxyDir}},
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

// addVolume gives the proxy its only writable directory, in memory.
func addVolume(spec *corev1.PodSpec) {
	if slices.ContainsFunc(spec.Volumes, func(v corev1.Volume) bool { return v.Name == config.ProxyVolume }) {
		return
	}
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: config.ProxyVolume, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse("16Mi"))},
	}})
}

// addPodResources raises the budget of a pod that has one (spec.resources, Kubernetes 1.34) by the
// sidecar's share: Kubernetes refuses containers whose requests exceed it.
func addPodResources(spec *corev1.PodSpec, r corev1.ResourceRequirements) {
	if spec.Resources == nil {
		return
	}
	add := func(budget corev1.ResourceList, shares ...corev1.ResourceList) {
		for name, total := range budget {
			for _, share := range shares {
				if quantity, ok := share[name]; ok {
					total.Add(quantity)
					budget[name] = total
					break
				}
			}
		}
	}
	add(spec.Resources.Requests, r.Requests, r.Limits)
	add(spec.Resources.Limits, r.Limits, r.Requests)
}

func joinPorts(ports []int32) string {
	texts := make([]string, len(ports))
	for i, port := range ports {
		texts[i] = strconv.Itoa(int(port))
	}
	return strings.Join(texts, ",")
}
