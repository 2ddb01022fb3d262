package xds_test

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/encoding/protojson"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// inputs are the objects of one in.yaml.
type inputs struct {
	services []*corev1.Service
	slices   []*discoveryv1.EndpointSlice
	cidrs    []*networkingv1.ServiceCIDR
	routes   mesh.RouteInputs
	policies []*gatewayxv1alpha1.XBackendTrafficPolicy
	// With pods the mesh has identities.
	pods       []*corev1.Pod
	namespaces []*corev1.Namespace
	// authorization are policies for the pods.
	authorization []*v1alpha1.AuthorizationPolicy
}

func init() {
	utilruntime.Must(gatewayv1.Install(scheme.Scheme))
	utilruntime.Must(gatewayxv1alpha1.Install(scheme.Scheme))
	utilruntime.Must(v1alpha1.Install(scheme.Scheme))
}

// TestGolden runs the two pure stages over Kubernetes objects: every resource for every proxy, and
// every problem and condition, stands in out.yaml. The real Envoy then validates all of it.
func TestGolden(t *testing.T) {
	golden.Run(t, "testdata", func(t *testing.T, c *golden.Case) {
		in := read(t, c.Read(t, "in.yaml"))
		cfg := configtest.WithoutIdentity()
		if in.pods != nil {
			cfg = config.Default()
		}
		resources, found := translate(in, cfg)
		again, _ := translate(in, cfg)
		out := render(t, resources, found)
		if !bytes.Equal(out, render(t, again, found)) {
			t.Error("the same input gave other bytes")
		}
		c.Check(t, "out.yaml", out)
		validate(t, resources)
	})
}

func read(t *testing.T, b []byte) inputs {
	t.Helper()
	var in inputs
	for i, doc := range bytes.Split(b, []byte("\n---\n")) {
		if onlyComments(doc) {
			continue
		}
		json, err := utilyaml.ToJSON(doc)
		if err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		object, err := runtime.Decode(scheme.Codecs.UniversalDeserializer(), json)
		if err != nil {
			t.Fatalf("document %d: %v", i, err)
		}
		switch o := object.(type) {
		case *corev1.Service:
			in.services = append(in.services, o)
		case *discoveryv1.EndpointSlice:
			in.slices = append(in.slices, o)
		case *corev1.Pod:
			in.pods = append(in.pods, o)
		case *corev1.Namespace:
			in.namespaces = append(in.namespaces, o)
		case *v1alpha1.AuthorizationPolicy:
			in.authorization = append(in.authorization, o)
		case *networkingv1.ServiceCIDR:
			in.cidrs = append(in.cidrs, o)
		case *gatewayv1.HTTPRoute:
			in.routes.HTTPRoutes = append(in.routes.HTTPRoutes, o)
		case *gatewayv1.GRPCRoute:
			in.routes.GRPCRoutes = append(in.routes.GRPCRoutes, o)
		case *gatewayv1.TLSRoute:
			in.routes.TLSRoutes = append(in.routes.TLSRoutes, o)
		case *gatewayv1.TCPRoute:
			in.routes.TCPRoutes = append(in.routes.TCPRoutes, o)
		case *gatewayxv1alpha1.XBackendTrafficPolicy:
			in.policies = append(in.policies, o)
		case *gatewayv1.ReferenceGrant:
			in.routes.Grants = append(in.routes.Grants, o)
		default:
			t.Fatalf("document %d: %T is not an input of the mesh", i, object)
		}
	}
	return in
}

// translate does what the Controller does, over a fixed set of objects.
func translate(in inputs, cfg *config.Mesh) ([]envoy.Resource, []string) {
	opt := mesh.Options{OpaquePorts: cfg.Detection.OpaquePorts}
	var services []*mesh.Service
	var problems []mesh.Problem
	in.routes.Services = map[mesh.Key]*mesh.Service{}
	for _, object := range in.services {
		svc, found := mesh.BuildService(object, opt)
		problems = append(problems, found...)
		in.routes.Services[mesh.Key{Namespace: object.Namespace, Name: object.Name}] = svc
	}
	conditions := traffic(in)
	rules, routeConditions := routes(in.routes)
	conditions = append(conditions, routeConditions...)
	for _, o := range in.authorization {
		for _, c := range mesh.PolicyConditions(o, cfg.MTLS.On()) {
			conditions = append(conditions, fmt.Sprintf("AuthorizationPolicy %s/%s: %s=%t, %s: %s", o.Namespace, o.Name, c.Type, c.True, c.Reason, c.Message))
		}
	}
	resources := append(envoy.BaseClusters(cfg), inbound(in, cfg)...)
	for _, object := range in.services {
		svc := in.routes.Services[mesh.Key{Namespace: object.Namespace, Name: object.Name}]
		if svc == nil {
			continue
		}
		services = append(services, svc)
		var own []*discoveryv1.EndpointSlice
		for _, s := range in.slices {
			if s.Namespace == svc.Namespace && s.Labels[discoveryv1.LabelServiceName] == svc.Name {
				own = append(own, s)
			}
		}
		endpoints, found := mesh.Endpoints(svc, own, podsOf(in, cfg))
		problems = append(problems, found...)
		svc.Identities = mesh.Identities(endpoints)
		resources = append(resources, envoy.ServiceResources(svc, rules[svc.Key], cfg)...)
		for key, eps := range endpoints {
			resources = append(resources, envoy.EndpointResources(svc, key, eps)...)
		}
	}
	table := envoy.NewProtocolTable(services...)
	for _, svc := range services {
		table.Routes.Set(svc.Key, svc, rules[svc.Key])
	}
	listeners, _ := table.Routes.Resources(cfg)
	resources = append(resources, listeners...)
	cidrs := mesh.ServiceCIDRs(in.cidrs, services, opt)
	if pods := podsOf(in, cfg); pods != nil {
		resources = append(resources, envoy.SecureOutboundListeners(table, cidrs, pods.Ranges(), cfg)...)
		for _, p := range in.pods { // as if somebody had called it
			addr := netip.AddrPortFrom(mesh.BuildPod(p).IPs[0], 9100)
			identity, _ := pods.IdentityAt(addr)
			resources = append(resources, envoy.PodAddress(addr, identity))
		}
	} else {
		resources = append(resources, envoy.OutboundListeners(table, cidrs, cfg)...)
	}
	slices.SortStableFunc(resources, func(a, b envoy.Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Class, b.Class), cmp.Compare(a.Variant, b.Variant))
	})
	var found []string
	for _, p := range problems {
		found = append(found, "problem: "+p.String())
	}
	return resources, append(found, conditions...)
}

func podsOf(in inputs, cfg *config.Mesh) *mesh.Pods {
	if !cfg.MTLS.On() {
		return nil
	}
	pods := mesh.NewPods(cfg.MTLS.TrustDomain)
	for _, p := range in.pods {
		pods.Set(mesh.BuildPod(p))
	}
	return pods
}

// inbound gives the inbound listeners for what the pods take.
func inbound(in inputs, cfg *config.Mesh) []envoy.Resource {
	if !cfg.MTLS.On() {
		return envoy.InboundListeners()
	}
	namespaces := map[string]config.MTLS{}
	for _, ns := range in.namespaces {
		namespaces[ns.Name], _ = config.MTLSOf(config.OnNamespace, ns.Annotations)
	}
	var policies []mesh.PodPolicy
	for _, o := range in.authorization {
		policies = append(policies, mesh.BuildPodPolicy(o))
	}
	var declared []mesh.Declared
	for _, o := range in.services {
		declared = append(declared, mesh.BuildDeclared(o, mesh.Options{OpaquePorts: cfg.Detection.OpaquePorts}))
	}
	var out []envoy.Resource
	seen := map[string]bool{}
	for _, p := range in.pods {
		takes := mesh.BuildInbound(mesh.BuildPod(p).MTLS, namespaces[p.Namespace], cfg.MTLS.Mode)
		takes.Policies = mesh.PoliciesOf(mesh.BuildPod(p), slices.Values(policies))
		takes.DeclareHTTP(mesh.HTTPPorts(mesh.BuildPod(p), slices.Values(declared)))
		if !seen[takes.String()] {
			seen[takes.String()] = true
			out = append(out, envoy.SecureInboundListeners(takes, cfg)...)
		}
	}
	return out
}

// traffic gives each Service its policy, and the conditions of every policy.
func traffic(in inputs) []string {
	targets := map[mesh.Key]bool{}
	for _, p := range in.policies {
		for _, key := range mesh.TrafficPolicyTargets(p) {
			targets[key] = true
		}
	}
	var conditions []string
	for target := range targets {
		svc := in.routes.Services[target]
		policy, statuses := mesh.BuildTrafficPolicies(target, svc, in.policies)
		if svc != nil {
			svc.Traffic = policy
		}
		for _, s := range statuses {
			for _, c := range s.Conditions {
				conditions = append(conditions, fmt.Sprintf("XBackendTrafficPolicy %s, Service %s: %s=%t, %s: %s", s.Policy, s.Ancestor.Name, c.Type, c.True, c.Reason, c.Message))
			}
		}
	}
	slices.Sort(conditions)
	return conditions
}

// routes gives the rules of every Service, and the conditions of every parent reference.
func routes(in mesh.RouteInputs) (map[mesh.Key]map[uint16]mesh.PortRules, []string) {
	parents := map[mesh.Key]bool{}
	for _, r := range in.HTTPRoutes {
		for _, key := range mesh.HTTPRouteRefs(r).Parents {
			parents[key] = true
		}
	}
	for _, r := range in.GRPCRoutes {
		for _, key := range mesh.GRPCRouteRefs(r).Parents {
			parents[key] = true
		}
	}
	for _, r := range in.TLSRoutes {
		for _, key := range mesh.TLSRouteRefs(r).Parents {
			parents[key] = true
		}
	}
	for _, r := range in.TCPRoutes {
		for _, key := range mesh.TCPRouteRefs(r).Parents {
			parents[key] = true
		}
	}
	rules := map[mesh.Key]map[uint16]mesh.PortRules{}
	var conditions []string
	for parent := range parents {
		built, statuses := mesh.BuildRoutes(parent, in)
		rules[parent] = built
		for _, s := range statuses {
			for _, c := range s.Conditions {
				conditions = append(conditions, fmt.Sprintf("%s, parent %s: %s=%t, %s: %s", s.Route, parent, c.Type, c.True, c.Reason, c.Message))
			}
		}
	}
	slices.Sort(conditions)
	return rules, conditions
}

// render writes resources as YAML documents. What does not depend on the inputs stands whole in the
// case "empty-mesh" alone: elsewhere it is left out, and of the outbound listener only the parts
// that depend on the Services are shown, once for all variants.
func render(t *testing.T, resources []envoy.Resource, found []string) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, text := range found {
		fmt.Fprintf(&out, "# %s\n", text)
	}
	fixed := map[string]bool{}
	if base, _ := translate(inputs{}, configtest.WithoutIdentity()); len(base) < len(resources) {
		for _, r := range base {
			fixed[r.Type+r.Name+r.Class+r.Variant] = true
		}
	}
	for _, r := range resources {
		message := r.Message
		variant, namespace, _ := strings.Cut(r.Variant, "@")
		if fixed[r.Type+r.Name+r.Class+variant] {
			l, ok := message.(*listenerv3.Listener)
			switch {
			case ok && r.Name == "outbound" && variant == "dual":
				message = &listenerv3.Listener{
					FilterChainMatcher: l.FilterChainMatcher, ListenerFilters: l.ListenerFilters,
					FilterChains: slices.DeleteFunc(slices.Clone(l.FilterChains), func(c *listenerv3.FilterChain) bool {
						return !strings.HasPrefix(c.Name, "outbound/") // of routes
					}),
				}
			case ok && namespace != "" && variant == "dual":
				message = &listenerv3.Listener{AdditionalAddresses: l.AdditionalAddresses}
			default:
				continue
			}
		}
		if l, ok := message.(*listenerv3.Listener); ok && r.Class != "" && r.Variant != "dual" {
			message = &listenerv3.Listener{Name: l.Name, Address: l.Address, AdditionalAddresses: l.AdditionalAddresses} // all else is the same
		}
		json, err := protojson.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		body, err := yaml.JSONToYAML(json)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "---\n# %s\n", r.Type)
		if r.Class != "" {
			fmt.Fprintf(&out, "# only for proxies of pods that take: %s\n", r.Class)
		}
		if r.Variant != "" {
			fmt.Fprintf(&out, "# only for proxies with: %s\n", r.Variant)
		}
		if r.Lazy {
			out.WriteString("# only for proxies that ask for it by name\n")
		}
		if r.Type == envoy.PodAddressType {
			fmt.Fprintf(&out, "%s: ", r.Name)
		}
		out.Write(body)
	}
	return out.Bytes()
}

func onlyComments(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		if text := bytes.TrimSpace(line); len(text) > 0 && text[0] != '#' {
			return false
		}
	}
	return true
}
