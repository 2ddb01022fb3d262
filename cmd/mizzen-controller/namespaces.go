package main

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/kube"
)

// namespaceLabels gives the labels of a namespace from the manager's cache, metadata only.
//
// The API server calls the webhook because it sees the label. A cache that does not see it may only be
// behind, and to believe it would start a pod without its sidecar: then the API server is asked.
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
