package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/webhook"
	"github.com/mizzen-mesh/mizzen/xds/kube"
)

// namespaceLabels returns a function that reads a namespace's labels from the manager's cache, which holds only
// metadata.
//
// The API server calls the webhook because the namespace has the label. If the cache lacks the label, the cache may be
// stale. Trusting it could start a pod without its sidecar, so the function asks the API server then.
func namespaceLabels(ctx context.Context, mgr ctrl.Manager) (func(context.Context, string) (map[string]string, error), error) {
	if _, err := mgr.GetCache().GetInformer(ctx, kube.NamespaceMetadata()); err != nil {
		return nil, fmt.Errorf("watch namespaces: %w", err)
	}
	return cachedLabels(mgr.GetCache(), mgr.GetAPIReader()), nil
}

func cachedLabels(cached, live client.Reader) func(context.Context, string) (map[string]string, error) {
	return func(ctx context.Context, name string) (map[string]string, error) {
		ns := kube.NamespaceMetadata()
		err := cached.Get(ctx, types.NamespacedName{Name: name}, ns)
		if apierrors.IsNotFound(err) || (err == nil && ns.Labels[config.LabelInjection] != config.InjectionEnabled) {
			ns = kube.NamespaceMetadata()
			err = live.Get(ctx, types.NamespacedName{Name: name}, ns)
		}
		return ns.Labels, err
	}
}

// revisions returns a function that returns the revision that injects a namespace's pods; empty if the namespace names none, or one
// that is not installed. The question is rare: it is asked of pods that a revision has injected. So the API server is asked where the
// cache says no.
func revisions(cached, live client.Reader, controlPlane string) func(context.Context, string) (string, error) {
	return func(ctx context.Context, namespace string) (string, error) {
		revision := ""
		for _, in := range []client.Reader{cached, live} {
			ns := kube.NamespaceMetadata()
			if err := in.Get(ctx, types.NamespacedName{Name: namespace}, ns); client.IgnoreNotFound(err) != nil {
				return "", err
			}
			if revision = ns.Labels[config.LabelRevision]; revision != "" {
				break
			}
		}
		if revision == "" {
			return "", nil
		}
		var service corev1.Service
		key := types.NamespacedName{Namespace: controlPlane, Name: config.OfRevision(config.ControllerService, revision)}
		if err := cached.Get(ctx, key, &service, client.UnsafeDisableDeepCopy); err != nil {
			return "", client.IgnoreNotFound(err)
		}
		return revision, nil
	}
}

// namespaceRules returns a function that reads a namespace's rules for its pods from the manager's cache.
func namespaceRules(ctx context.Context, mgr ctrl.Manager) (func(context.Context, string) (webhook.Namespace, error), error) {
	for _, o := range []client.Object{&corev1.ResourceQuota{}, &corev1.LimitRange{}} {
		if _, err := mgr.GetCache().GetInformer(ctx, o); err != nil {
			return nil, fmt.Errorf("watch %T: %w", o, err)
		}
	}
	return cachedRules(mgr.GetCache(), mgr.GetAPIReader()), nil
}

// cachedRules asks the API server for a namespace that the cache does not have yet. It may miss quotas and limits that
// are created together with the first pods. The API server then refuses the pod, and its controller creates it again.
func cachedRules(cached, live client.Reader) func(context.Context, string) (webhook.Namespace, error) {
	return func(ctx context.Context, name string) (webhook.Namespace, error) {
		ns := kube.NamespaceMetadata()
		err := cached.Get(ctx, types.NamespacedName{Name: name}, ns)
		if apierrors.IsNotFound(err) {
			err = live.Get(ctx, types.NamespacedName{Name: name}, ns)
		}
		if err != nil {
			return webhook.Namespace{}, err
		}
		out := webhook.Namespace{Labels: ns.Labels, Annotations: ns.Annotations}
		var quotas corev1.ResourceQuotaList
		if err := cached.List(ctx, &quotas, client.InNamespace(name), client.UnsafeDisableDeepCopy); err != nil {
			return webhook.Namespace{}, fmt.Errorf("ResourceQuotas: %w", err)
		}
		var limits corev1.LimitRangeList
		if err := cached.List(ctx, &limits, client.InNamespace(name), client.UnsafeDisableDeepCopy); err != nil {
			return webhook.Namespace{}, fmt.Errorf("LimitRanges: %w", err)
		}
		// The cache has no order, but the same pod must always get the same sidecar.
		for i := range quotas.Items {
			out.Quotas = append(out.Quotas, &quotas.Items[i])
		}
		for i := range limits.Items {
			out.LimitRanges = append(out.LimitRanges, &limits.Items[i])
		}
		slices.SortFunc(out.Quotas, func(a, b *corev1.ResourceQuota) int { return strings.Compare(a.Name, b.Name) })
		slices.SortFunc(out.LimitRanges, func(a, b *corev1.LimitRange) int { return strings.Compare(a.Name, b.Name) })
		return out, nil
	}
}
