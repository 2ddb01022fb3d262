package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// optionalKinds are kinds that a cluster may lack, and get or lose while we run: their CRDs come and go. ReferenceGrants
// are read in the version that every release of the Gateway API serves.
var optionalKinds = map[mesh.Kind]struct {
	crd     string
	version schema.GroupVersion
	object  client.Object
}{
	mesh.KindHTTPRoute:        {"httproutes.gateway.networking.k8s.io", schema.GroupVersion(gatewayv1.GroupVersion), &gatewayv1.HTTPRoute{}},
	mesh.KindGRPCRoute:        {"grpcroutes.gateway.networking.k8s.io", schema.GroupVersion(gatewayv1.GroupVersion), &gatewayv1.GRPCRoute{}},
	mesh.KindTLSRoute:         {"tlsroutes.gateway.networking.k8s.io", schema.GroupVersion(gatewayv1.GroupVersion), &gatewayv1.TLSRoute{}},
	mesh.KindTCPRoute:         {"tcproutes.gateway.networking.k8s.io", schema.GroupVersion(gatewayv1.GroupVersion), &gatewayv1.TCPRoute{}},
	mesh.KindUDPRoute:         {"udproutes.gateway.networking.k8s.io", schema.GroupVersion(gatewayv1.GroupVersion), &gatewayv1.UDPRoute{}},
	mesh.KindGatewayClass:     {"gatewayclasses.gateway.networking.k8s.io", schema.GroupVersion(gatewayv1.GroupVersion), &gatewayv1.GatewayClass{}},
	mesh.KindGateway:          {"gateways.gateway.networking.k8s.io", schema.GroupVersion(gatewayv1.GroupVersion), &gatewayv1.Gateway{}},
	mesh.KindListenerSet:      {"listenersets.gateway.networking.k8s.io", schema.GroupVersion(gatewayv1.GroupVersion), &gatewayv1.ListenerSet{}},
	mesh.KindBackendTLSPolicy: {"backendtlspolicies.gateway.networking.k8s.io", schema.GroupVersion(gatewayv1.GroupVersion), &gatewayv1.BackendTLSPolicy{}},
	mesh.KindReferenceGrant:   {"referencegrants.gateway.networking.k8s.io", schema.GroupVersion(gatewayv1beta1.GroupVersion), &gatewayv1beta1.ReferenceGrant{}},
	mesh.KindTrafficPolicy:    {"xbackendtrafficpolicies.gateway.networking.x-k8s.io", schema.GroupVersion(gatewayxv1alpha1.GroupVersion), &gatewayxv1alpha1.XBackendTrafficPolicy{}},

	mesh.KindAuthorizationPolicy: {"authorizationpolicies.mizzen.dev", v1alpha1.GroupVersion, &v1alpha1.AuthorizationPolicy{}},
}

// onlyForGateways are the optional kinds that nobody needs without gateways.
var onlyForGateways = []mesh.Kind{mesh.KindUDPRoute, mesh.KindGatewayClass, mesh.KindGateway, mesh.KindListenerSet, mesh.KindBackendTLSPolicy}

// follows reports whether an optional kind is watched while it is served.
func (s *Source) follows(kind mesh.Kind) bool {
	return s.gateways || !slices.Contains(onlyForGateways, kind)
}

// optional is an optional kind while its API is served.
type optional struct {
	objects map[mesh.Key]client.Object // the informer's own: read only
	// registration is nil while the watch begins.
	registration toolscache.ResourceEventHandlerRegistration
}

var crdKind = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// CRDMetadata returns what a cache keeps of a CRD.
func CRDMetadata() *metav1.PartialObjectMetadata {
	return metadataOf(crdKind)
}

// Object returns an object of an optional kind, or nil. The object is the cache's own: read only.
func (s *Source) Object(id mesh.ID) client.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.optional[id.Kind]; o != nil {
		return o.objects[id.Key]
	}
	return nil
}

// Objects returns the objects of an optional kind, sorted by name; of all namespaces if namespace is empty.
func (s *Source) Objects(kind mesh.Kind, namespace string) []client.Object {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.optional[kind]
	if o == nil {
		return nil
	}
	var out []client.Object
	for _, key := range slices.SortedFunc(maps.Keys(o.objects), mesh.Key.Compare) {
		if namespace == "" || key.Namespace == namespace {
			out = append(out, o.objects[key])
		}
	}
	return out
}

// Run follows the CRDs of the optional kinds until ctx ends.
func (s *Source) Run(ctx context.Context) error {
	const again, atMost = time.Second, time.Minute
	wait := again
	for {
		retry := s.followCRDs(ctx)
		var timer <-chan time.Time
		if retry {
			timer = time.After(wait)
			wait = min(2*wait, atMost)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.crdChanged:
			wait = again
		case <-timer:
		}
	}
}

// followCRDs watches the kinds that are served and stops watching those that are not. It reports whether to try again,
// because a CRD exists before its API is served.
func (s *Source) followCRDs(ctx context.Context) (retry bool) {
	for kind, k := range optionalKinds {
		if !s.follows(kind) {
			continue
		}
		exists, err := s.crdExists(ctx, k.crd)
		if err != nil {
			s.log.Error(err, "keeping the current watches", "kind", kind)
			retry = true
			continue
		}
		switch watched := s.optional[kind] != nil; {
		case !exists && watched:
			s.log.Info("no longer served", "kind", kind)
			if err := s.stop(ctx, kind); err != nil {
				s.log.Error(err, "stop watching", "kind", kind)
			}
		case exists && !watched:
			switch err := s.start(ctx, kind); {
			case err == nil:
				s.log.Info("served", "kind", kind)
			case meta.IsNoMatchError(err): // not served yet, or only in other versions
				s.log.V(1).Info("not served", "kind", kind, "want", k.version.String())
				retry = true
			default:
				s.log.Error(err, "cannot watch, trying again", "kind", kind)
				retry = true
			}
		}
	}
	return retry
}

func (s *Source) crdExists(ctx context.Context, name string) (bool, error) {
	err := s.cache.Get(ctx, client.ObjectKey{Name: name}, CRDMetadata())
	return err == nil, client.IgnoreNotFound(err)
}

// startServed watches the optional kinds that are served now, so that the first publication includes them.
func (s *Source) startServed(ctx context.Context) error {
	for kind := range optionalKinds {
		if !s.follows(kind) {
			continue
		}
		if err := s.start(ctx, kind); err != nil && !meta.IsNoMatchError(err) {
			return err
		}
	}
	return nil
}

// start watches an optional kind; the error wraps a NoMatch error if it is not served.
func (s *Source) start(ctx context.Context, kind mesh.Kind) error {
	k := optionalKinds[kind]
	if _, err := s.mapper.RESTMapping(schema.GroupKind{Group: k.version.Group, Kind: string(kind)}, k.version.Version); err != nil {
		return fmt.Errorf("look up %s: %w", kind, err)
	}
	informer, err := s.cache.GetInformer(ctx, k.object, cache.BlockUntilSynced(false))
	if err != nil {
		return fmt.Errorf("watch %s: %w", kind, err)
	}
	o := &optional{objects: map[mesh.Key]client.Object{}}
	s.note(func(*Changes) { s.optional[kind] = o })
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc:    func(x any) { s.set(kind, o, nil, object(x)) },
		UpdateFunc: func(before, now any) { s.set(kind, o, object(before), object(now)) },
		DeleteFunc: func(x any) { s.set(kind, o, object(x), nil) },
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.registration = registration; err != nil {
		delete(s.optional, kind) // so that it is started again
		return fmt.Errorf("watch %s: %w", kind, err)
	}
	return nil
}

// set notes a change of one object. before is nil for a new object, now for a deleted one.
func (s *Source) set(kind mesh.Kind, o *optional, before, now client.Object) {
	s.note(func(c *Changes) {
		if s.optional[kind] != o {
			return // a late event of a watch that was stopped
		}
		if now == nil {
			id := mesh.ID{Kind: kind, Key: keyOf(before)}
			delete(o.objects, id.Key)
			c.Objects[id] = nil
			return
		}
		id := mesh.ID{Kind: kind, Key: keyOf(now)}
		o.objects[id.Key], c.Objects[id] = now, now
		if before != nil && mesh.SameIntent(before, now) {
			c.Statuses[id] = struct{}{}
		}
	})
}

// stop forgets an optional kind. Its objects were deleted with its CRD.
func (s *Source) stop(ctx context.Context, kind mesh.Kind) error {
	s.note(func(c *Changes) {
		for key := range s.optional[kind].objects {
			c.Objects[mesh.ID{Kind: kind, Key: key}] = nil
		}
		delete(s.optional, kind)
	})
	return s.cache.RemoveInformer(ctx, optionalKinds[kind].object)
}
