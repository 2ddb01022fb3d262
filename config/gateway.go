package config

import (
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// GatewayParametersKey is the key of a ConfigMap whose value is the YAML of GatewayParameters.
const GatewayParametersKey = "mizzen.yaml"

// Gateways says how Gateways are served.
type Gateways struct {
	// Enabled makes the control plane deploy pods for the Gateways of its classes. Default true, but false in a revision.
	Enabled *bool `json:"enabled,omitempty"`
	// CreateClass makes the control plane create a GatewayClass once the cluster has the Gateway API. It never changes a
	// GatewayClass that exists. Default true.
	CreateClass *bool `json:"createClass,omitempty"`
	// ClassName is the name of that GatewayClass. Default "mizzen".
	ClassName string `json:"className,omitempty"`
	// Defaults are the parameters of all Gateways. The ConfigMap that a GatewayClass names overrides them, and the one that
	// a Gateway names overrides both.
	Defaults GatewayParameters `json:"defaults,omitempty"`
}

// GatewayParameters say how the pods and the Service of a Gateway are made. A document that sets a field replaces its whole
// value.
type GatewayParameters struct {
	// ServiceType is ClusterIP, NodePort or LoadBalancer. Default LoadBalancer.
	ServiceType corev1.ServiceType `json:"serviceType,omitempty"`
	// ServiceAnnotations are annotations of the Service alone. Default: none.
	ServiceAnnotations map[string]string `json:"serviceAnnotations,omitempty"`
	// LoadBalancerClass of a Service of type LoadBalancer. Kubernetes refuses to change it. Default: the cluster's.
	LoadBalancerClass string `json:"loadBalancerClass,omitempty"`
	// ExternalTrafficPolicy is Cluster or Local, for a Service of type NodePort or LoadBalancer. Local keeps the clients'
	// addresses. Default: the default of Kubernetes, Cluster.
	ExternalTrafficPolicy corev1.ServiceExternalTrafficPolicy `json:"externalTrafficPolicy,omitempty"`
	// ServiceName is the name of a Service of the Gateway's namespace that stands already. The Gateway then gets none of its own. Its ports
	// must lead to the pods' ports, and its selector to the pods. Default: none.
	ServiceName string `json:"serviceName,omitempty"`
	// Replicas of the pods, 0 to 1000, without autoscaling. A document that sets replicas and no autoscaling turns off the
	// autoscaling of the documents that it overrides. Default 2.
	Replicas *int32 `json:"replicas,omitempty"`
	// Autoscaling makes a HorizontalPodAutoscaler, which then decides about replicas. Default: none.
	Autoscaling *GatewayAutoscaling `json:"autoscaling,omitempty"`
	// Resources of the container. Envoy has a worker thread for each CPU of its limit, or of the node without a limit.
	// Default: requests of 100m CPU and 128Mi memory, no limits.
	Resources *corev1.ResourceRequirements `json:"resources,omitempty"`
	// NodeSelector has labels that a node must have. Default: none.
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// Tolerations of the pods. Default: none.
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
	// Affinity of the pods. Default: none.
	Affinity *corev1.Affinity `json:"affinity,omitempty"`
	// TopologySpreadConstraints of the pods; one without a labelSelector is about the Gateway's own pods. Default: over
	// nodes, if possible (ScheduleAnyway).
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`
	// PriorityClassName of the pods. Default: the cluster's.
	PriorityClassName string `json:"priorityClassName,omitempty"`
	// LogLevel of Envoy and the agent: trace, debug, info, warning, error, critical or off. Default "warning".
	LogLevel string `json:"logLevel,omitempty"`
	// DrainDelay is how long a terminating pod still takes connections, so that load balancers stop choosing it first. Whole
	// seconds from 0s to 1h. Default 5s.
	DrainDelay *metav1.Duration `json:"drainDelay,omitempty"`
	// DrainTimeout is how long open requests and connections may last after that. Whole seconds from 0s to 1h. Default 30s.
	DrainTimeout *metav1.Duration `json:"drainTimeout,omitempty"`
	// TrustedHops is how many proxies, each of which adds its caller to x-forwarded-for, every request passes before the Gateway, 0 to
	// 16. Their x-forwarded-proto is believed. With 0 the client is who connects. Default 0.
	TrustedHops *int32 `json:"trustedHops,omitempty"`
	// ProxyProtocol is true if a load balancer begins every TCP connection with the PROXY protocol, version 1 or 2. A connection without
	// it is closed. UDP and HTTP/3 have none. Default false.
	ProxyProtocol *bool `json:"proxyProtocol,omitempty"`
	// ForwardClientCertificate says in x-forwarded-client-cert which certificate the client has shown: its hash, subject, URIs and DNS names,
	// and the certificate itself. Only listeners that require a valid certificate say it. Default false.
	ForwardClientCertificate *bool `json:"forwardClientCertificate,omitempty"`
}

// GatewayAutoscaling says how the number of a Gateway's pods follows their load.
type GatewayAutoscaling struct {
	// MinReplicas is 1 to 1000. Default 2, or maxReplicas if that is less.
	MinReplicas *int32 `json:"minReplicas,omitempty"`
	// MaxReplicas is minReplicas to 1000. Required.
	MaxReplicas *int32 `json:"maxReplicas,omitempty"`
	// TargetCPUUtilizationPercentage is the CPU time that pods use on average, as a percentage of their request, 1 to 1000.
	// Default 80.
	TargetCPUUtilizationPercentage *int32 `json:"targetCPUUtilizationPercentage,omitempty"`
}

const (
	maxGatewayReplicas = 1000
	maxDrainTimeout    = time.Hour
	maxTrustedHops     = 16
)

// FindConfigMap returns a ConfigMap, or nil if there is none.
type FindConfigMap func(namespace, name string) *corev1.ConfigMap

// ReadParameters returns the parameters of a Gateway: base, overridden by the ConfigMap that its class names, overridden by
// the one that it names itself. The error names object, field, value and the allowed values.
// https://gateway-api.sigs.k8s.io/reference/spec/#gatewayinfrastructure
func ReadParameters(base GatewayParameters, class *gatewayv1.GatewayClass, gateway *gatewayv1.Gateway, find FindConfigMap) (GatewayParameters, error) {
	p, err := ReadClassParameters(base, class, find)
	if err != nil {
		return p, err
	}
	if gateway.Spec.Infrastructure == nil || gateway.Spec.Infrastructure.ParametersRef == nil {
		return p, nil
	}
	ref := gateway.Spec.Infrastructure.ParametersRef
	by := fmt.Sprintf("Gateway %s/%s: spec.infrastructure.parametersRef", gateway.Namespace, gateway.Name)
	if err := checkParametersKind(by, ref.Group, ref.Kind); err != nil {
		return p, err
	}
	return p.overriddenBy(by, gateway.Namespace, ref.Name, find)
}

// ReadClassParameters returns the parameters of a GatewayClass: base, overridden by the ConfigMap that the class names.
func ReadClassParameters(base GatewayParameters, class *gatewayv1.GatewayClass, find FindConfigMap) (GatewayParameters, error) {
	ref := class.Spec.ParametersRef
	if ref == nil {
		return base, nil
	}
	by := fmt.Sprintf("GatewayClass %s: spec.parametersRef", class.Name)
	if err := checkParametersKind(by, ref.Group, ref.Kind); err != nil {
		return base, err
	}
	if ref.Namespace == nil || *ref.Namespace == "" {
		return base, fmt.Errorf("%s.namespace: %q: want the namespace of the ConfigMap", by, "")
	}
	return base.overriddenBy(by, string(*ref.Namespace), ref.Name, find)
}

func checkParametersKind(by string, group gatewayv1.Group, kind gatewayv1.Kind) error {
	if group != "" {
		return fmt.Errorf("%s.group: %q: want \"\", the group of ConfigMap", by, group)
	}
	if kind != "ConfigMap" {
		return fmt.Errorf("%s.kind: %q: want ConfigMap", by, kind)
	}
	return nil
}

func (p GatewayParameters) overriddenBy(by, namespace, name string, find FindConfigMap) (GatewayParameters, error) {
	object := find(namespace, name)
	if object == nil {
		return p, fmt.Errorf("%s.name: %q: want a ConfigMap of namespace %s; there is none with this name", by, name, namespace)
	}
	own, err := parseGatewayParameters(object)
	if err != nil {
		return p, fmt.Errorf("%s: ConfigMap %s/%s: %w", by, namespace, name, err)
	}
	p.set(own)
	return p, nil
}

// parseGatewayParameters reads the one key of a ConfigMap with parameters.
func parseGatewayParameters(object *corev1.ConfigMap) (GatewayParameters, error) {
	text, ok := object.Data[GatewayParametersKey]
	keys := slices.Concat(sortedKeys(object.Data), sortedKeys(object.BinaryData))
	if i := slices.IndexFunc(keys, func(key string) bool { return key != GatewayParametersKey }); i >= 0 {
		return GatewayParameters{}, fmt.Errorf("key %q: want no key but %s", keys[i], GatewayParametersKey)
	}
	if !ok {
		return GatewayParameters{}, errors.New("no key " + GatewayParametersKey + "; want its value to be YAML, and docs/reference.md lists the fields")
	}
	p := GatewayParameters{}
	err := parse([]byte(text), &p)
	if err == nil {
		err = p.validate(nil).ToAggregate()
	}
	if err != nil {
		return GatewayParameters{}, fmt.Errorf("%s: %w", GatewayParametersKey, err)
	}
	return p, nil
}

// set overrides p with the fields of other that are set.
func (p *GatewayParameters) set(other GatewayParameters) {
	replace(&p.ServiceType, other.ServiceType)
	replaceMap(&p.ServiceAnnotations, other.ServiceAnnotations)
	replace(&p.LoadBalancerClass, other.LoadBalancerClass)
	replace(&p.ExternalTrafficPolicy, other.ExternalTrafficPolicy)
	replace(&p.ServiceName, other.ServiceName)
	if other.Replicas != nil || other.Autoscaling != nil {
		p.Autoscaling = other.Autoscaling
	}
	replace(&p.Replicas, other.Replicas)
	replace(&p.Resources, other.Resources)
	replaceMap(&p.NodeSelector, other.NodeSelector)
	replaceList(&p.Tolerations, other.Tolerations)
	replace(&p.Affinity, other.Affinity)
	replaceList(&p.TopologySpreadConstraints, other.TopologySpreadConstraints)
	replace(&p.PriorityClassName, other.PriorityClassName)
	replace(&p.LogLevel, other.LogLevel)
	replace(&p.DrainDelay, other.DrainDelay)
	replace(&p.DrainTimeout, other.DrainTimeout)
	replace(&p.TrustedHops, other.TrustedHops)
	replace(&p.ProxyProtocol, other.ProxyProtocol)
	replace(&p.ForwardClientCertificate, other.ForwardClientCertificate)
}

func replace[T comparable](field *T, value T) {
	var zero T
	if value != zero {
		*field = value
	}
}

func replaceMap[V any](field *map[string]V, value map[string]V) {
	if value != nil { // an empty one says "none"
		*field = value
	}
}

func replaceList[T any](field *[]T, value []T) {
	if value != nil {
		*field = value
	}
}
