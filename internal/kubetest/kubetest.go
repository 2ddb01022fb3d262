// Package kubetest is an API server for tests: objects that are applied and deleted, and a real cache that watches them. It
// serves every kind that the control plane watches. It may import api, internal/kubecache and internal/kubescheme.
package kubetest

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	toolstesting "k8s.io/client-go/tools/cache/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/internal/kubecache"
	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
)

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// kinds are those that are served. Of the optional ones crd is the name of the definition.
var kinds = []struct {
	schema.GroupVersionKind
	scope meta.RESTScope
	crd   string
}{
	{corev1.SchemeGroupVersion.WithKind("Service"), meta.RESTScopeNamespace, ""},
	{corev1.SchemeGroupVersion.WithKind("Pod"), meta.RESTScopeNamespace, ""},
	{corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot, ""},
	{corev1.SchemeGroupVersion.WithKind("Node"), meta.RESTScopeRoot, ""},
	{discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), meta.RESTScopeNamespace, ""},
	{networkingv1.SchemeGroupVersion.WithKind("ServiceCIDR"), meta.RESTScopeRoot, ""},
	{crdKind, meta.RESTScopeRoot, ""},
	{corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace, ""},
	{corev1.SchemeGroupVersion.WithKind("ConfigMap"), meta.RESTScopeNamespace, ""},
	// Of Gateways; the cache's options name them.
	{corev1.SchemeGroupVersion.WithKind("ServiceAccount"), meta.RESTScopeNamespace, ""},
	{appsv1.SchemeGroupVersion.WithKind("Deployment"), meta.RESTScopeNamespace, ""},
	{policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"), meta.RESTScopeNamespace, ""},
	{autoscalingv2.SchemeGroupVersion.WithKind("HorizontalPodAutoscaler"), meta.RESTScopeNamespace, ""},
	{schema.GroupVersion(gatewayv1.GroupVersion).WithKind("HTTPRoute"), meta.RESTScopeNamespace, "httproutes.gateway.networking.k8s.io"},
	{schema.GroupVersion(gatewayv1.GroupVersion).WithKind("GRPCRoute"), meta.RESTScopeNamespace, "grpcroutes.gateway.networking.k8s.io"},
	{schema.GroupVersion(gatewayv1.GroupVersion).WithKind("TLSRoute"), meta.RESTScopeNamespace, "tlsroutes.gateway.networking.k8s.io"},
	{schema.GroupVersion(gatewayv1.GroupVersion).WithKind("TCPRoute"), meta.RESTScopeNamespace, "tcproutes.gateway.networking.k8s.io"},
	{schema.GroupVersion(gatewayv1.GroupVersion).WithKind("UDPRoute"), meta.RESTScopeNamespace, "udproutes.gateway.networking.k8s.io"},
	{schema.GroupVersion(gatewayv1.GroupVersion).WithKind("GatewayClass"), meta.RESTScopeRoot, "gatewayclasses.gateway.networking.k8s.io"},
	{schema.GroupVersion(gatewayv1.GroupVersion).WithKind("Gateway"), meta.RESTScopeNamespace, "gateways.gateway.networking.k8s.io"},
	{schema.GroupVersion(gatewayv1.GroupVersion).WithKind("ListenerSet"), meta.RESTScopeNamespace, "listenersets.gateway.networking.k8s.io"},
	{schema.GroupVersion(gatewayv1.GroupVersion).WithKind("BackendTLSPolicy"), meta.RESTScopeNamespace, "backendtlspolicies.gateway.networking.k8s.io"},
	{schema.GroupVersion(gatewayv1beta1.GroupVersion).WithKind("ReferenceGrant"), meta.RESTScopeNamespace, "referencegrants.gateway.networking.k8s.io"},
	{schema.GroupVersion(gatewayxv1alpha1.GroupVersion).WithKind("XBackendTrafficPolicy"), meta.RESTScopeNamespace, "xbackendtrafficpolicies.gateway.networking.x-k8s.io"},
	{v1alpha1.GroupVersion.WithKind("AuthorizationPolicy"), meta.RESTScopeNamespace, "authorizationpolicies.mizzen.dev"},
}

// Cluster is an API server.
type Cluster struct {
	scheme  *runtime.Scheme
	mapper  *meta.DefaultRESTMapper
	sources map[schema.GroupVersionKind]*toolstesting.FakeControllerSource

	mu        sync.Mutex
	objects   map[id]client.Object
	versions  map[schema.GroupVersionKind]int // of the last change of each kind
	listeners []*listener
	uids      int
}

// id names an object.
type id struct {
	schema.GroupVersionKind
	types.NamespacedName
}

// New returns a cluster without objects.
func New() (*Cluster, error) {
	c := &Cluster{
		scheme: kubescheme.New(), mapper: meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion}),
		sources: map[schema.GroupVersionKind]*toolstesting.FakeControllerSource{},
		objects: map[id]client.Object{}, versions: map[schema.GroupVersionKind]int{},
	}
	for _, k := range kinds {
		c.mapper.Add(k.GroupVersionKind, k.scope)
		c.sources[k.GroupVersionKind] = toolstesting.NewFakeControllerSource()
	}
	return c, nil
}

// CRDs returns the metadata of the CustomResourceDefinitions of all optional kinds.
func CRDs() []client.Object {
	var out []client.Object
	for _, k := range kinds {
		if k.crd != "" {
			o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: k.crd}}
			o.SetGroupVersionKind(crdKind)
			out = append(out, o)
		}
	}
	return out
}

// Namespace returns the metadata of a namespace, which is all that the control plane reads of one.
func Namespace(name string, annotations map[string]string) client.Object {
	o := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}}
	o.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return o
}

// Mapper knows the kinds that are served.
func (c *Cluster) Mapper() meta.RESTMapper { return c.mapper }

// Source returns what the cache watches for objects of one kind, for tests that change it event by event. Apply and Delete
// know nothing of such changes.
func (c *Cluster) Source(of client.Object) *toolstesting.FakeControllerSource {
	kind, err := c.kindOf(of)
	if err != nil {
		panic(err) // the test names a kind that is not served
	}
	return c.sources[kind]
}

// kindOf knows the kind of metadata alone by what it says of itself.
func (c *Cluster) kindOf(o runtime.Object) (schema.GroupVersionKind, error) {
	kind := schema.GroupVersionKind{}
	if m, ok := o.(*metav1.PartialObjectMetadata); ok {
		kind = m.GroupVersionKind()
	} else {
		all, _, err := c.scheme.ObjectKinds(o)
		if err != nil {
			return kind, err
		}
		kind = all[0]
	}
	if c.sources[kind] == nil {
		return kind, fmt.Errorf("%s is not served", kind)
	}
	return kind, nil
}

// Apply makes or changes objects, in this order. As the API server does it, a new object gets a UID if it has none, a changed
// one keeps its own, and the generation counts changes of all but metadata and status. An object that is as it was is no change.
func (c *Cluster) Apply(objects ...client.Object) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range objects {
		if err := c.apply(o.DeepCopyObject().(client.Object)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) apply(o client.Object) error {
	kind, err := c.kindOf(o)
	if err != nil {
		return err
	}
	name := id{kind, client.ObjectKeyFromObject(o)}
	before := c.objects[name]
	if before == nil {
		if c.uids++; o.GetUID() == "" {
			o.SetUID(types.UID(fmt.Sprintf("uid-%d", c.uids)))
		}
		o.SetGeneration(1)
		return c.change(name, o, c.sources[kind].Add)
	}
	if o.GetUID() != "" && o.GetUID() != before.GetUID() {
		return fmt.Errorf("%s %s has UID %s, want %s: delete it first", kind.Kind, name.NamespacedName, before.GetUID(), o.GetUID())
	}
	o.SetUID(before.GetUID())
	o.SetGeneration(before.GetGeneration())
	o.SetResourceVersion(before.GetResourceVersion())
	o.SetCreationTimestamp(before.GetCreationTimestamp())
	if reflect.DeepEqual(before, o) {
		return nil
	}
	intent, err := sameIntent(before, o)
	if err != nil {
		return err
	}
	if !intent {
		o.SetGeneration(before.GetGeneration() + 1)
	}
	return c.change(name, o, c.sources[kind].Modify)
}

// sameIntent reports whether two objects differ in metadata and status at most.
func sameIntent(a, b client.Object) (bool, error) {
	var fields [2]map[string]any
	for i, o := range []client.Object{a, b} {
		var err error
		if fields[i], err = runtime.DefaultUnstructuredConverter.ToUnstructured(o); err != nil {
			return false, err
		}
		maps.DeleteFunc(fields[i], func(name string, _ any) bool { return name == "metadata" || name == "status" })
	}
	return reflect.DeepEqual(fields[0], fields[1]), nil
}

// change sends a copy to those who watch, and keeps the object with the version that it has got.
func (c *Cluster) change(name id, o client.Object, send func(runtime.Object)) error {
	sent := o.DeepCopyObject().(client.Object)
	send(sent)
	o.SetResourceVersion(sent.GetResourceVersion())
	c.objects[name] = o
	var err error
	c.versions[name.GroupVersionKind], err = version(o)
	return err
}

func version(o client.Object) (int, error) { return strconv.Atoi(o.GetResourceVersion()) }

// Delete deletes objects by their names, in this order. Those that do not exist are left out.
func (c *Cluster) Delete(objects ...client.Object) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, o := range objects {
		kind, err := c.kindOf(o)
		if err != nil {
			return err
		}
		name := id{kind, client.ObjectKeyFromObject(o)}
		before := c.objects[name]
		if before == nil {
			continue
		}
		if err := c.change(name, before, c.sources[kind].Delete); err != nil {
			return err
		}
		delete(c.objects, name)
	}
	return nil
}

// Get returns an object as it is, nil if it does not exist. Only kind and name of what is given are looked at.
func (c *Cluster) Get(like client.Object) (client.Object, error) {
	kind, err := c.kindOf(like)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o := c.objects[id{kind, client.ObjectKeyFromObject(like)}]; o != nil {
		return o.DeepCopyObject().(client.Object), nil
	}
	return nil, nil
}

// Cache returns a cache of the cluster's objects that is not started yet, with the product's options.
func (c *Cluster) Cache() (cache.Cache, error) { return c.CacheWith(kubecache.Options()) }

// CacheWith is Cache with other options.
func (c *Cluster) CacheWith(o cache.Options) (cache.Cache, error) {
	o.Scheme, o.Mapper = c.scheme, c.mapper
	o.NewInformer = func(_ toolscache.ListerWatcher, of runtime.Object, resync time.Duration, by toolscache.Indexers) toolscache.SharedIndexInformer {
		kind, err := c.kindOf(of)
		if err != nil {
			panic(fmt.Sprintf("the cache watches %T: %v", of, err))
		}
		return toolscache.NewSharedIndexInformer(c.sources[kind], of, resync, by)
	}
	inner, err := cache.New(&rest.Config{}, o)
	if err != nil {
		return nil, err
	}
	return &observed{Cache: inner, cluster: c}, nil
}

// Heard waits until all event handlers that have been added to informers of the cluster's caches have returned from every
// change that was applied before.
func (c *Cluster) Heard(ctx context.Context) error {
	c.mu.Lock()
	want := maps.Clone(c.versions)
	c.mu.Unlock()
	var missing *listener
	err := wait.PollUntilContextCancel(ctx, time.Millisecond, true, func(context.Context) (bool, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, l := range c.listeners {
			if missing = l; !l.heard(want[l.kind]) {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil && missing != nil {
		return fmt.Errorf("a handler of %s has not heard of version %d, but of %d: %w", missing.kind.Kind, want[missing.kind], missing.last.Load(), err)
	}
	return err
}
