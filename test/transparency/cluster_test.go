package transparency

import (
	"context"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	toolstesting "k8s.io/client-go/tools/cache/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/kube"
)

// kinds are what the API server has: all that the control plane watches.
var kinds = map[schema.GroupVersionKind]meta.RESTScope{
	corev1.SchemeGroupVersion.WithKind("Service"):                                        meta.RESTScopeNamespace,
	corev1.SchemeGroupVersion.WithKind("Pod"):                                            meta.RESTScopeNamespace,
	corev1.SchemeGroupVersion.WithKind("Namespace"):                                      meta.RESTScopeRoot,
	discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"):                             meta.RESTScopeNamespace,
	networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"):                              meta.RESTScopeRoot,
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("HTTPRoute"):                    meta.RESTScopeNamespace,
	schema.GroupVersion(gatewayv1.GroupVersion).WithKind("GRPCRoute"):                    meta.RESTScopeNamespace,
	schema.GroupVersion(gatewayv1beta1.GroupVersion).WithKind("ReferenceGrant"):          meta.RESTScopeNamespace,
	schema.GroupVersion(gatewayxv1alpha1.GroupVersion).WithKind("XBackendTrafficPolicy"): meta.RESTScopeNamespace,
	v1alpha1.GroupVersion.WithKind("AuthorizationPolicy"):                                meta.RESTScopeNamespace,
	{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}:     meta.RESTScopeRoot,
}

// newSource gives the informers of the control plane with these objects, which never change.
func newSource(ctx context.Context, objects []runtime.Object) (*kube.Source, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme, gatewayv1.Install, gatewayv1beta1.Install, gatewayxv1alpha1.Install, v1alpha1.Install,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion})
	sources := map[schema.GroupVersionKind]*toolstesting.FakeControllerSource{}
	for gvk, scope := range kinds {
		mapper.Add(gvk, scope)
		sources[gvk] = toolstesting.NewFakeControllerSource()
	}
	for _, o := range objects {
		gvk, err := kindOf(scheme, o)
		if err != nil || sources[gvk] == nil {
			return nil, fmt.Errorf("%T: %s: %w", o, gvk, err)
		}
		sources[gvk].Add(o)
	}
	options := kube.CacheOptions()
	options.Scheme, options.Mapper = scheme, mapper
	options.NewInformer = func(_ toolscache.ListerWatcher, of runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
		gvk, err := kindOf(scheme, of)
		if err != nil || sources[gvk] == nil {
			panic(fmt.Sprintf("the control plane watches %T, which this API server lacks: %v", of, err))
		}
		return toolscache.NewSharedIndexInformer(sources[gvk], of, resync, by)
	}
	c, err := cache.New(&rest.Config{}, options)
	if err != nil {
		return nil, err
	}
	source, err := kube.NewSource(ctx, c, mapper, true, logr.Discard())
	if err != nil {
		return nil, err
	}
	go func() { _ = c.Start(ctx) }() // ends with ctx
	return source, nil
}

// kindOf knows the kind of metadata alone by what it says of itself.
func kindOf(scheme *runtime.Scheme, o runtime.Object) (schema.GroupVersionKind, error) {
	if m, ok := o.(*metav1.PartialObjectMetadata); ok {
		return m.GroupVersionKind(), nil
	}
	gvks, _, err := scheme.ObjectKinds(o)
	if err != nil {
		return schema.GroupVersionKind{}, err
	}
	return gvks[0], nil
}
