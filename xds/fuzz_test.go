package xds

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// FuzzObjects: whatever stands in the cluster's objects, the control plane goes on, tells what it works around,
// and gives nothing out that Envoy would refuse.
func FuzzObjects(f *testing.F) {
	cases, err := filepath.Glob("testdata/*/in.yaml")
	if err != nil || len(cases) == 0 {
		f.Fatal(err)
	}
	for _, path := range cases {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	objects := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, gatewayv1.Install, gatewayxv1alpha1.Install} {
		if err := add(objects); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		var c fuzzedCluster
		for doc := range bytes.SplitSeq(content, []byte("\n---\n")) {
			c.add(objects, doc)
		}
		c.translate(t, config.Default())
	})
}

type fuzzedCluster struct {
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
	cidrs    []*networkingv1.ServiceCIDR
	pods     []*corev1.Pod
	policies []*gatewayxv1alpha1.XBackendTrafficPolicy
	spaces   []*metav1.PartialObjectMetadata
	routes   mesh.RouteInputs
}

// add takes a document that is an object of a known kind, as the API server would, and leaves others out.
func (c *fuzzedCluster) add(objects *runtime.Scheme, doc []byte) {
	var meta metav1.TypeMeta
	if yaml.Unmarshal(doc, &meta) != nil {
		return
	}
	object, err := objects.New(meta.GroupVersionKind())
	if err != nil || yaml.Unmarshal(doc, object) != nil {
		return
	}
	switch o := object.(type) {
	case *corev1.Service:
		c.services = append(c.services, o)
	case *discoveryv1.EndpointSlice:
		c.slices = append(c.slices, o)
	case *corev1.Pod:
		c.pods = append(c.pods, o)
	case *corev1.Namespace:
		c.spaces = append(c.spaces, &metav1.PartialObjectMetadata{TypeMeta: o.TypeMeta, ObjectMeta: o.ObjectMeta})
	case *networkingv1.ServiceCIDR:
		c.cidrs = append(c.cidrs, o)
	case *gatewayv1.HTTPRoute:
		c.routes.HTTPRoutes = append(c.routes.HTTPRoutes, o)
	case *gatewayv1.GRPCRoute:
		c.routes.GRPCRoutes = append(c.routes.GRPCRoutes, o)
	case *gatewayxv1alpha1.XBackendTrafficPolicy:
		c.policies = append(c.policies, o)
	case *gatewayv1.ReferenceGrant:
		c.routes.Grants = append(c.routes.Grants, o)
	}
}

func (c *fuzzedCluster) translate(t *testing.T, cfg *config.Mesh) {
	cfg.MTLS.TrustDomain = cfg.TrustDomain
	opt := mesh.Options{OpaquePorts: cfg.Detection.OpaquePorts}
	pods := mesh.NewPods(cfg.TrustDomain)
	for _, p := range c.pods {
		pods.Set(mesh.BuildPod(p))
	}
	for _, ns := range c.spaces {
		_, _ = mesh.BuildNamespace(ns)
	}
	c.routes.Services = map[mesh.Key]*mesh.Service{}
	var services []*mesh.Service
	for _, o := range c.services {
		svc, _ := mesh.BuildService(o, opt)
		key := mesh.Key{Namespace: o.Namespace, Name: o.Name}
		if _, double := c.routes.Services[key]; double {
			continue
		}
		if c.routes.Services[key] = svc; svc != nil {
			services = append(services, svc)
			svc.Traffic, _ = mesh.BuildTrafficPolicies(key, svc, c.policies)
		}
	}
	parents := map[mesh.Key]bool{}
	for _, r := range c.routes.HTTPRoutes {
		for _, key := range mesh.HTTPRouteRefs(r).Parents {
			parents[key] = true
		}
	}
	for _, r := range c.routes.GRPCRoutes {
		for _, key := range mesh.GRPCRouteRefs(r).Parents {
			parents[key] = true
		}
	}
	tr := translation{cfg: cfg, check: envoy.Check}
	for _, svc := range services {
		parents[svc.Key] = true
		var own []*discoveryv1.EndpointSlice
		for _, s := range c.slices {
			if s.Namespace == svc.Namespace && s.Labels[discoveryv1.LabelServiceName] == svc.Name {
				own = append(own, s)
			}
		}
		endpoints, _ := mesh.Endpoints(svc, own, pods)
		svc.Identities = mesh.Identities(endpoints)
		for key, eps := range endpoints {
			if err := envoy.Check(envoy.EndpointResources(svc, key, eps)); err != nil {
				t.Errorf("endpoints of %s: %v", svc.Key, err)
			}
		}
	}
	for key := range parents {
		if _, err := tr.service(key, c.routes.Services[key], c.routes); err != nil {
			t.Errorf("Service %s: %v", key, err)
		}
	}
	cidrs := mesh.ServiceCIDRs(c.cidrs, services, opt)
	if err := envoy.Check(envoy.SecureOutboundListeners(envoy.NewProtocolTable(services...), cidrs, pods.Ranges(), cfg)); err != nil {
		t.Errorf("outbound listeners: %v", err)
	}
}
