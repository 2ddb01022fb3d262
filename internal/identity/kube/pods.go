package kube

import (
	"context"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Pods looks up pods in a cache, and where that does not have one at the API server: a cache may be
// behind.
type Pods struct {
	Cache, Live client.Reader
}

// Pod returns the facts about a pod.
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
	return issuer.Pod{ServiceAccount: pod.Spec.ServiceAccountName, IPs: addresses(pod), Ended: ended(pod)}, nil
}

// addressIndex finds pods by an address of their own.
const addressIndex = "mizzen.address"

// IndexAddresses adds the index that At needs. It must be called before the cache starts.
func IndexAddresses(ctx context.Context, i client.FieldIndexer) error {
	return i.IndexField(ctx, &corev1.Pod{}, addressIndex, func(o client.Object) []string {
		pod, ok := o.(*corev1.Pod)
		if !ok || pod.Spec.HostNetwork || ended(pod) {
			return nil
		}
		var out []string
		for _, ip := range addresses(pod) {
			out = append(out, ip.String())
		}
		return out
	})
}

// At tells which pod has an address; false if none has, as far as the cache knows, or several.
func (p *Pods) At(ctx context.Context, a netip.Addr) (issuer.Caller, bool) {
	var list corev1.PodList
	if err := p.Cache.List(ctx, &list, client.MatchingFields{addressIndex: a.String()}); err != nil || len(list.Items) != 1 {
		return issuer.Caller{}, false
	}
	pod := list.Items[0]
	return issuer.Caller{Namespace: pod.Namespace, ServiceAccount: pod.Spec.ServiceAccountName, Pod: pod.Name, UID: string(pod.UID)}, true
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

func addresses(pod *corev1.Pod) []netip.Addr {
	var out []netip.Addr
	for _, ip := range pod.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	return out
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

// Starting counts the pods that have not started yet, by the version of the bundle with which they were injected. They
// trust no other bundle until they have a certificate.
func (p *Pods) Starting(ctx context.Context) (map[string]int, error) {
	var list corev1.PodList
	if err := p.Cache.List(ctx, &list); err != nil {
		return nil, err
	}
	out := map[string]int{}
	for i := range list.Items {
		// Of the bundle the cache keeps its version (kubecache.Pod).
		if version, ok := sidecar.TrustBundle(&list.Items[i].Spec); ok && list.Items[i].Status.Phase == corev1.PodPending {
			out[version]++
		}
	}
	return out, nil
}
