package gateway

import (
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// FieldManager owns the fields of all objects that Render returns. It is also the value of labelManagedBy.
const FieldManager = config.GatewayFieldManager

// Labels of all objects and pods.
// https://gateway-api.sigs.k8s.io/geps/gep-1762/
const (
	labelGateway   = gatewayv1.GatewayNameLabelKey
	labelClass     = gatewayv1.GatewayClassNameLabelKey
	labelManagedBy = "app.kubernetes.io/managed-by"
)

// RootsKey is the key of the ConfigMap that has the mesh's roots, in PEM.
const RootsKey = "roots.pem"

// gatewayFlag makes the proxy serve a Gateway, without captured traffic.
const gatewayFlag = "--gateway"

// drainTimeoutFlag is how long the agent waits for active requests.
const drainTimeoutFlag = "drain-timeout"

// stopTime is left of the grace period for Envoy's own end.
const stopTime = 5 * time.Second

// Parameters are those of one Gateway (config.ReadParameters).
type Parameters = config.GatewayParameters

// Install is what all Gateways have in common.
type Install struct {
	Image            string
	ImagePullPolicy  corev1.PullPolicy
	ImagePullSecrets []string
	// ControlPlane is the host:port of the ADS server.
	ControlPlane string
	// IdentityAddress is the host:port of the identity server, and TrustBundle the mesh's roots in PEM. Both are empty in a
	// mesh without identities.
	IdentityAddress, TrustBundle string
	LogAnswers                   bool
}

// NewInstall returns what the mesh configuration says of all Gateways, without the roots.
func NewInstall(cfg *config.Mesh) (Install, error) {
	i := Install{
		Image: cfg.Sidecar.Image, ImagePullPolicy: cfg.Sidecar.ImagePullPolicy, ImagePullSecrets: cfg.Sidecar.ImagePullSecrets,
		ControlPlane: cfg.ControlPlaneAddress, LogAnswers: cfg.Sidecar.LogAnswers,
	}
	if !*cfg.Identity.Enabled {
		return i, nil
	}
	var err error
	i.IdentityAddress, err = sidecar.IdentityAddress(cfg.ControlPlaneAddress)
	return i, err
}

// renderer makes the objects of one Gateway.
type renderer struct {
	gateway   *gatewayv1.Gateway
	ports     []mesh.GatewayPort
	addresses []netip.Addr
	p         Parameters
	install   Install
	name      string
}

// Render returns the objects of a Gateway in the order in which they are applied. Nothing in the pod template depends on the
// listeners or on the mesh's roots, so a new listener or root leaves the pods alone.
func Render(gateway *gatewayv1.Gateway, ports []mesh.GatewayPort, p Parameters, install Install) []client.Object {
	r := renderer{gateway: gateway, ports: ports, p: p, install: install, name: mesh.GatewayName(gateway.Name, string(gateway.Spec.GatewayClassName))}
	r.addresses, _ = mesh.GatewayAddresses(gateway) // the Deployer reports the others
	var out []client.Object
	if install.TrustBundle != "" {
		out = append(out, r.roots())
	}
	out = append(out, r.serviceAccount())
	if own := p.ServiceName == "" || p.ServiceName == r.name; own && len(ports) > 0 { // Kubernetes has no Service without ports
		out = append(out, r.service())
	}
	out = append(out, r.deployment(), r.podDisruptionBudget())
	if p.Autoscaling != nil {
		out = append(out, r.autoscaler())
	}
	return out
}

func (r renderer) typeMeta(gv schema.GroupVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: gv.String(), Kind: kind}
}

func (r renderer) meta(annotations map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: r.gateway.Namespace, Name: r.name, Labels: r.labels(), Annotations: merged(r.annotations(), annotations),
		// Without blockOwnerDeletion, for which some clusters want a right on the Gateway's finalizers.
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: gatewayv1.GroupVersion.String(), Kind: "Gateway", Name: r.gateway.Name, UID: r.gateway.UID, Controller: new(true),
		}},
	}
}

// labels returns those of all objects: the user's, and ours, which win.
// https://gateway-api.sigs.k8s.io/reference/spec/#gatewayinfrastructure
func (r renderer) labels() map[string]string {
	own := merged(r.selector(), map[string]string{labelManagedBy: FieldManager})
	if r.gateway.Spec.Infrastructure == nil {
		return own
	}
	return merged(texts(r.gateway.Spec.Infrastructure.Labels), own)
}

func (r renderer) annotations() map[string]string {
	if r.gateway.Spec.Infrastructure == nil {
		return nil
	}
	return texts(r.gateway.Spec.Infrastructure.Annotations)
}

func texts[K, V ~string](m map[K]V) map[string]string {
	out := map[string]string{}
	for key, value := range m {
		out[string(key)] = string(value)
	}
	return out
}

// merged returns the entries of both; those of b win. It is nil without any.
func merged(a, b map[string]string) map[string]string {
	if len(a)+len(b) == 0 {
		return nil
	}
	out := map[string]string{}
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// selector has the labels of the Gateway's pods and no others.
func (r renderer) selector() map[string]string { return mesh.GatewaySelector(r.gateway) }

// roots has the mesh's roots for the start of a container. They are not in the pod template, because a pod may start long
// after the Deployment was changed, when the roots of then have been replaced.
func (r renderer) roots() client.Object {
	return &corev1.ConfigMap{
		TypeMeta: r.typeMeta(corev1.SchemeGroupVersion, "ConfigMap"), ObjectMeta: r.meta(nil), Data: map[string]string{RootsKey: r.install.TrustBundle},
	}
}

func (r renderer) serviceAccount() client.Object {
	return &corev1.ServiceAccount{
		TypeMeta: r.typeMeta(corev1.SchemeGroupVersion, "ServiceAccount"), ObjectMeta: r.meta(nil), AutomountServiceAccountToken: new(false),
	}
}

// service has a static address where Kubernetes has a field for it: one address of a load balancer or of the cluster. Not in
// externalIPs: with them whoever makes a Gateway could take traffic of any address, which clusters forbid therefore.
// https://kubernetes.io/docs/concepts/services-networking/service/#external-ips
func (r renderer) service() client.Object {
	spec := corev1.ServiceSpec{Type: r.p.ServiceType, Selector: r.selector()}
	for _, p := range r.ports {
		spec.Ports = append(spec.Ports, servicePort(p))
	}
	if spec.Type != corev1.ServiceTypeClusterIP {
		spec.ExternalTrafficPolicy = r.p.ExternalTrafficPolicy
	}
	if spec.Type == corev1.ServiceTypeLoadBalancer && r.p.LoadBalancerClass != "" {
		spec.LoadBalancerClass = new(r.p.LoadBalancerClass)
	}
	if len(r.addresses) > 0 {
		switch spec.Type {
		case corev1.ServiceTypeLoadBalancer:
			spec.LoadBalancerIP = r.addresses[0].String()
		case corev1.ServiceTypeClusterIP:
			spec.ClusterIP = r.addresses[0].String()
		default: // a Service of type NodePort has the nodes' addresses
		}
	}
	return &corev1.Service{TypeMeta: r.typeMeta(corev1.SchemeGroupVersion, "Service"), ObjectMeta: r.meta(r.p.ServiceAnnotations), Spec: spec}
}

func servicePort(p mesh.GatewayPort) corev1.ServicePort {
	out := corev1.ServicePort{
		Name: "tcp-" + strconv.Itoa(int(p.Port)), Protocol: corev1.ProtocolTCP, Port: int32(p.Port), TargetPort: intstr.FromInt32(int32(p.Bind)),
	}
	if p.UDP {
		out.Name, out.Protocol = "udp-"+strconv.Itoa(int(p.Port)), corev1.ProtocolUDP
	}
	if p.AppProtocol != "" {
		out.AppProtocol = new(p.AppProtocol)
	}
	return out
}

func (r renderer) deployment() client.Object {
	spec := appsv1.DeploymentSpec{
		Selector: &metav1.LabelSelector{MatchLabels: r.selector()},
		Strategy: appsv1.DeploymentStrategy{Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{
			MaxUnavailable: new(intstr.FromInt32(0)), MaxSurge: new(intstr.FromInt32(1)),
		}},
		Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{
				Labels:      merged(r.labels(), map[string]string{config.LabelInjection: config.InjectionDisabled}),
				Annotations: r.annotations(),
			},
			Spec: r.podSpec(),
		},
	}
	if r.p.Autoscaling == nil {
		spec.Replicas = r.p.Replicas
	}
	return &appsv1.Deployment{TypeMeta: r.typeMeta(appsv1.SchemeGroupVersion, "Deployment"), ObjectMeta: r.meta(nil), Spec: spec}
}

func (r renderer) podSpec() corev1.PodSpec {
	grace := r.p.DrainDelay.Duration + r.p.DrainTimeout.Duration + stopTime
	spec := corev1.PodSpec{
		ServiceAccountName:            r.name,
		AutomountServiceAccountToken:  new(false),
		EnableServiceLinks:            new(false),
		TerminationGracePeriodSeconds: new(int64(grace / time.Second)),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		Containers:                []corev1.Container{r.container()},
		NodeSelector:              r.p.NodeSelector,
		Tolerations:               r.p.Tolerations,
		Affinity:                  r.p.Affinity,
		TopologySpreadConstraints: r.spread(),
		PriorityClassName:         r.p.PriorityClassName,
	}
	for _, name := range r.install.ImagePullSecrets {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	if r.install.IdentityAddress != "" {
		spec.Volumes = []corev1.Volume{sidecar.TokenVolume(api.Audience)}
	}
	return spec
}

func (r renderer) spread() []corev1.TopologySpreadConstraint {
	pods := &metav1.LabelSelector{MatchLabels: r.selector()}
	if len(r.p.TopologySpreadConstraints) == 0 {
		return []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: pods,
		}}
	}
	out := slices.Clone(r.p.TopologySpreadConstraints)
	for i := range out {
		if out[i].LabelSelector == nil {
			out[i].LabelSelector = pods
		}
	}
	return out
}

// container runs the agent, which runs Envoy. Of its ports it names only the agent's: a port of a listener here would change
// the pod template.
func (r renderer) container() corev1.Container {
	c := corev1.Container{
		Name:                     config.ProxyContainer,
		Image:                    r.install.Image,
		ImagePullPolicy:          r.install.ImagePullPolicy,
		Args:                     r.args(),
		Env:                      sidecar.ProxyEnv("Deployment/" + r.name),
		Ports:                    []corev1.ContainerPort{{Name: sidecar.MetricsPort, ContainerPort: config.AgentPort, Protocol: corev1.ProtocolTCP}},
		ReadinessProbe:           probe("/readyz", 2, 6, 3),
		StartupProbe:             probe("/startupz", 1, 6, math.MaxInt32), // a missing control plane is no reason to start again
		LivenessProbe:            probe("/healthz", 10, 6, 3),
		SecurityContext:          sidecar.ProxySecurity(),
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	if r.p.Resources != nil {
		c.Resources = *r.p.Resources
	}
	if seconds := int64(r.p.DrainDelay.Duration / time.Second); seconds > 0 {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}}
	}
	if r.install.IdentityAddress != "" {
		c.VolumeMounts = []corev1.VolumeMount{sidecar.TokenMount()}
		c.Env = append(c.Env, corev1.EnvVar{Name: contract.TrustBundleEnv, ValueFrom: &corev1.EnvVarSource{
			ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: r.name}, Key: RootsKey},
		}})
	}
	return c
}

func (r renderer) args() []string {
	args := contract.Run{
		ControlPlane: r.install.ControlPlane, IdentityAddress: r.install.IdentityAddress,
		LogLevel: r.p.LogLevel, LogAnswers: r.install.LogAnswers, Concurrency: r.concurrency(),
	}.Args(contract.Captured{})
	return append(args, gatewayFlag, contract.Arg(drainTimeoutFlag, r.p.DrainTimeout.Duration.String()))
}

// concurrency returns a worker thread for each CPU of the limit, or 0, all CPUs of the node, without one.
func (r renderer) concurrency() int {
	if r.p.Resources == nil {
		return 0
	}
	limit := r.p.Resources.Limits[corev1.ResourceCPU]
	return int(limit.Value()) // rounded up
}

func probe(path string, period, timeout, failures int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(config.AgentPort), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds: period, TimeoutSeconds: timeout, FailureThreshold: failures,
	}
}

func (r renderer) podDisruptionBudget() client.Object {
	return &policyv1.PodDisruptionBudget{
		TypeMeta: r.typeMeta(policyv1.SchemeGroupVersion, "PodDisruptionBudget"), ObjectMeta: r.meta(nil),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: r.selector()},
		},
	}
}

func (r renderer) autoscaler() client.Object {
	a := r.p.Autoscaling
	return &autoscalingv2.HorizontalPodAutoscaler{
		TypeMeta: r.typeMeta(autoscalingv2.SchemeGroupVersion, "HorizontalPodAutoscaler"), ObjectMeta: r.meta(nil),
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "Deployment", Name: r.name},
			MinReplicas:    new(a.Min()), MaxReplicas: *a.MaxReplicas,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(a.Target())},
			}}},
		},
	}
}

// describe names an object in messages.
func describe(o client.Object) string {
	return fmt.Sprintf("%s %s/%s", o.GetObjectKind().GroupVersionKind().Kind, o.GetNamespace(), o.GetName())
}
