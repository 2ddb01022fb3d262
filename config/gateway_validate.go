package config

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// validate reports the mistakes in the fields that are set.
func (p GatewayParameters) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	types := []corev1.ServiceType{corev1.ServiceTypeClusterIP, corev1.ServiceTypeNodePort, corev1.ServiceTypeLoadBalancer}
	if p.ServiceType != "" && !slices.Contains(types, p.ServiceType) {
		errs = append(errs, field.NotSupported(child(path, "serviceType"), p.ServiceType, types))
	}
	policies := []corev1.ServiceExternalTrafficPolicy{corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal}
	if p.ExternalTrafficPolicy != "" && !slices.Contains(policies, p.ExternalTrafficPolicy) {
		errs = append(errs, field.NotSupported(child(path, "externalTrafficPolicy"), p.ExternalTrafficPolicy, policies))
	}
	for _, key := range sortedKeys(p.ServiceAnnotations) {
		for _, msg := range validation.IsQualifiedName(strings.ToLower(key)) { // as the API server does
			errs = append(errs, field.Invalid(child(path, "serviceAnnotations"), key, msg))
		}
	}
	if p.LoadBalancerClass != "" {
		for _, msg := range validation.IsQualifiedName(p.LoadBalancerClass) {
			errs = append(errs, field.Invalid(child(path, "loadBalancerClass"), p.LoadBalancerClass, msg))
		}
	}
	if p.ServiceName != "" {
		for _, msg := range validation.IsDNS1035Label(p.ServiceName) {
			errs = append(errs, field.Invalid(child(path, "serviceName"), p.ServiceName, msg))
		}
	}
	if p.Replicas != nil {
		errs = append(errs, checkInt(child(path, "replicas"), p.Replicas, 0, maxGatewayReplicas)...)
	}
	if p.Autoscaling != nil {
		errs = append(errs, p.Autoscaling.validate(child(path, "autoscaling"))...)
	}
	if p.Resources != nil {
		errs = append(errs, checkResources(child(path, "resources"), *p.Resources)...)
	}
	if p.PriorityClassName != "" && !validObjectName(p.PriorityClassName) {
		errs = append(errs, field.Invalid(child(path, "priorityClassName"), p.PriorityClassName, "want the name of a PriorityClass"))
	}
	if p.LogLevel != "" && !slices.Contains(LogLevels, p.LogLevel) {
		errs = append(errs, field.NotSupported(child(path, "logLevel"), p.LogLevel, LogLevels))
	}
	if p.DrainDelay != nil && !validDrainDelay(p.DrainDelay.Duration) {
		errs = append(errs, field.Invalid(child(path, "drainDelay"), durationText(p.DrainDelay), "want "+wantDrainDelay))
	}
	if d := p.DrainTimeout; d != nil && (d.Duration < 0 || d.Duration > maxDrainTimeout || d.Duration%time.Second != 0) {
		errs = append(errs, field.Invalid(child(path, "drainTimeout"), durationText(d), "want whole seconds from 0s to 1h, such as 30s"))
	}
	if p.TrustedHops != nil {
		errs = append(errs, checkInt(child(path, "trustedHops"), p.TrustedHops, 0, maxTrustedHops)...)
	}
	return errs
}

func (a GatewayAutoscaling) validate(path *field.Path) field.ErrorList {
	errs := checkInt(path.Child("maxReplicas"), a.MaxReplicas, 1, maxGatewayReplicas)
	if a.MinReplicas != nil {
		high := int32(maxGatewayReplicas)
		if len(errs) == 0 {
			high = *a.MaxReplicas
		}
		errs = append(errs, checkInt(path.Child("minReplicas"), a.MinReplicas, 1, high)...)
	}
	if a.TargetCPUUtilizationPercentage != nil {
		errs = append(errs, checkInt(path.Child("targetCPUUtilizationPercentage"), a.TargetCPUUtilizationPercentage, 1, 1000)...)
	}
	return errs
}

// Min returns the least number of pods.
func (a GatewayAutoscaling) Min() int32 {
	if a.MinReplicas != nil {
		return *a.MinReplicas
	}
	return min(defaultGatewayReplicas, *a.MaxReplicas)
}

// Target returns the wanted utilization of CPU in percent of the request.
func (a GatewayAutoscaling) Target() int32 {
	if a.TargetCPUUtilizationPercentage != nil {
		return *a.TargetCPUUtilizationPercentage
	}
	return 80
}
