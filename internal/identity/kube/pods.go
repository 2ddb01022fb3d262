package kube

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

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

// Strip leaves of a pod in the cache what Pods reads.
func Strip(object any) (any, error) {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return object, nil
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
		Spec:       corev1.PodSpec{ServiceAccountName: pod.Spec.ServiceAccountName},
		Status:     corev1.PodStatus{Phase: pod.Status.Phase, PodIPs: pod.Status.PodIPs},
	}, nil
}
