// Package kubecache says what the control plane's cache keeps in memory of each object. The process and every test that
// makes a cache take Options, so that no test reads what the product has dropped.
//
// It may import config, internal/gateway, internal/identity/api, internal/sidecar with its contract, and xds/kube.
package kubecache

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/gateway-api/pkg/consts"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/gateway"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Options returns the options of the cache that kube.Source, internal/gateway and internal/identity/kube read. What nobody reads is not held.
func Options() cache.Options {
	byObject := gateway.CacheOptions()
	byObject[kube.CRDMetadata()] = cache.ByObject{Transform: crd}
	byObject[kube.NodeMetadata()] = cache.ByObject{Transform: nodeMetadata}
	byObject[&corev1.Pod{}] = cache.ByObject{Transform: Pod}
	byObject[&corev1.Secret{}] = cache.ByObject{Field: fields.OneTermEqualSelector("type", string(corev1.SecretTypeTLS)), Transform: secret}
	byObject[&corev1.ConfigMap{}] = cache.ByObject{Transform: configMap}
	return cache.Options{DefaultTransform: cache.TransformStripManagedFields(), ByObject: byObject}
}

// crd leaves the name of a CRD and its version of the Gateway API: kubectl's annotation alone can have 256 KiB.
func crd(object any) (any, error) {
	if crd, ok := object.(*metav1.PartialObjectMetadata); ok {
		version, ok := crd.Annotations[consts.BundleVersionAnnotation]
		crd.Annotations, crd.Labels, crd.ManagedFields = nil, nil, nil
		if ok {
			crd.Annotations = map[string]string{consts.BundleVersionAnnotation: version}
		}
	}
	return object, nil
}

// nodeMetadata leaves the zone of a node.
func nodeMetadata(object any) (any, error) {
	if o, ok := object.(*metav1.PartialObjectMetadata); ok {
		zone, ok := o.Labels[corev1.LabelTopologyZone]
		o.Annotations, o.Labels, o.ManagedFields = nil, nil, nil
		if ok {
			o.Labels = map[string]string{corev1.LabelTopologyZone: zone}
		}
	}
	return object, nil
}

// secret leaves the certificate and the key of a TLS Secret.
func secret(object any) (any, error) {
	if o, ok := object.(*corev1.Secret); ok {
		o.Annotations, o.Labels, o.ManagedFields = nil, nil, nil
		for key := range o.Data {
			if key != corev1.TLSCertKey && key != corev1.TLSPrivateKeyKey {
				delete(o.Data, key)
			}
		}
	}
	return object, nil
}

// configMap leaves the values that gateways read, and the names of all keys: those of others may be large.
func configMap(object any) (any, error) {
	if o, ok := object.(*corev1.ConfigMap); ok {
		o.ManagedFields = nil
		for key := range o.Data {
			if !slices.Contains([]string{mesh.CAKey, config.GatewayParametersKey, gateway.RootsKey}, key) {
				o.Data[key] = ""
			}
		}
		for key := range o.BinaryData {
			o.BinaryData[key] = nil
		}
	}
	return object, nil
}

// Pod leaves of a pod what mesh.BuildPod, identity/kube.Pods and internal/sidecar read. Whoever reads more of a cached pod adds
// it here, and to the properties of this package's test.
func Pod(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			DeletionTimestamp: pod.DeletionTimestamp, Labels: pod.Labels, Annotations: ownAnnotations(pod.Annotations),
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: pod.Spec.ServiceAccountName, HostNetwork: pod.Spec.HostNetwork, InitContainers: ownContainers(&pod.Spec),
			Containers: namedPorts(&pod.Spec),
		},
		Status: corev1.PodStatus{Phase: pod.Status.Phase, PodIPs: pod.Status.PodIPs},
	}, nil
}

func ownAnnotations(annotations map[string]string) map[string]string {
	var out map[string]string
	for key, value := range annotations {
		if strings.HasPrefix(key, config.Group+"/") {
			if out == nil {
				out = map[string]string{}
			}
			out[key] = value
		}
	}
	return out
}

// ownContainers returns the sidecar's, with what internal/sidecar reads and the names of their variables; of the trust
// bundle the version in place of its text.
func ownContainers(spec *corev1.PodSpec) []corev1.Container {
	var out []corev1.Container
	for _, c := range []*corev1.Container{sidecar.Capture(spec), sidecar.Proxy(spec)} {
		if c == nil {
			continue
		}
		own := corev1.Container{Name: c.Name, Args: c.Args, RestartPolicy: c.RestartPolicy}
		for _, e := range c.Env {
			kept := corev1.EnvVar{Name: e.Name}
			if e.Name == contract.TrustBundleEnv {
				kept.Value = api.Version(e.Value)
			}
			own.Env = append(own.Env, kept)
		}
		out = append(out, own)
	}
	return out
}

// namedPorts leaves of the application's containers the ports with a name, by which Services find them.
func namedPorts(spec *corev1.PodSpec) []corev1.Container {
	var out []corev1.Container
	for _, c := range sidecar.Servers(spec) {
		var ports []corev1.ContainerPort
		for _, p := range c.Ports {
			if p.Name != "" {
				ports = append(ports, corev1.ContainerPort{Name: p.Name, ContainerPort: p.ContainerPort, Protocol: p.Protocol})
			}
		}
		if ports != nil {
			out = append(out, corev1.Container{Ports: ports})
		}
	}
	return out
}
