package kube

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
)

// Pods looks up pods in a cache, and where that does not have one at the API server: a cache may be
// behind.
type Pods struct {
	Cache, Live client.Reader
}

// Pod gives what has to be known of a pod.
func (p *Pods) Pod(ctx context.Context, namespace, name, uid string) (issuer.Pod, error) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	pod, err := get(ctx, p.Cache, key, uid)
	if apierrors.IsNotFound(err) {
		pod, err = get(ctx, p.Live, key, uid)
	}
	if apierrors.IsNotFound(err) {
		return issuer.Pod{}, fmt.Errorf("%w: %s with UID %s", issuer.ErrNoPod, key, uid)
	}
	if err != nil {
		return issuer.Pod{}, err
	}
	out := issuer.Pod{
		ServiceAccount: pod.Spec.ServiceAccountName,
		Ended:          pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed,
	}
	for _, ip := range pod.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out.IPs = append(out.IPs, a.Unmap())
		}
	}
	return out, nil
}

// get takes a pod of another UID for none.
func get(ctx context.Context, r client.Reader, key types.NamespacedName, uid string) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	if err := r.Get(ctx, key, pod); err != nil {
		return nil, err
	}
	if string(pod.UID) != uid {
		return nil, apierrors.NewNotFound(corev1.Resource("pods"), key.String())
	}
	return pod, nil
}

// Strip leaves of a pod in the cache what Pods and mesh.BuildPod read.
func Strip(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
			Labels: pod.Labels, Annotations: ownAnnotations(pod.Annotations),
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: pod.Spec.ServiceAccountName, HostNetwork: pod.Spec.HostNetwork, InitContainers: ownContainers(pod.Spec.InitContainers),
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

// ownContainers are the injector's, with their arguments and the names of their variables.
func ownContainers(containers []corev1.Container) []corev1.Container {
	var out []corev1.Container
	for _, c := range containers {
		if c.Name != config.CaptureContainer && c.Name != config.ProxyContainer {
			continue
		}
		own := corev1.Container{Name: c.Name, Args: c.Args}
		for _, e := range c.Env {
			own.Env = append(own.Env, corev1.EnvVar{Name: e.Name})
		}
		out = append(out, own)
	}
	return out
}
