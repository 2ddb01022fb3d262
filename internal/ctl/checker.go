package ctl

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/sets"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// checker compares the objects before and after the files are applied.
type checker struct {
	files         []*fileObject
	byName        map[string]*fileObject
	before, after *world
	// around has the objects to which policies refer.
	around inhabitants
	known
	findings []finding
	said     map[finding]bool
}

// known says what is not known of the cluster.
type known struct {
	// alone is set if there is no cluster.
	alone bool
	// missing are kinds that the user may not list.
	missing unread
	// namespaces are those whose labels are not known.
	namespaces sets.Set[string]
}

func newChecker(files []*fileObject, before, after *world, around inhabitants) *checker {
	around.services = of[*corev1.Service](after.objects)
	c := &checker{files: files, around: around, byName: map[string]*fileObject{}, before: before, after: after, said: map[finding]bool{}}
	for _, f := range files {
		c.byName[f.String()] = f
	}
	return c
}

func (c *checker) add(f finding) {
	if !c.said[f] { // a route with two parents has its backends resolved twice
		c.said[f] = true
		c.findings = append(c.findings, f)
	}
}

func (c *checker) check() []finding {
	for _, o := range c.files {
		switch object := o.Object.(type) {
		case *gatewayv1.HTTPRoute:
			c.checkRoute(o, object.Spec.ParentRefs, mesh.HTTPRouteFaults(object))
			for i, rule := range object.Spec.Rules {
				c.checkWeights(o, i, httpBackends(rule))
			}
		case *gatewayv1.GRPCRoute:
			c.checkRoute(o, object.Spec.ParentRefs, mesh.GRPCRouteFaults(object))
			for i, rule := range object.Spec.Rules {
				c.checkWeights(o, i, grpcBackends(rule))
			}
		case *gatewayv1.TLSRoute:
			c.checkRoute(o, object.Spec.ParentRefs, mesh.TLSRouteFaults(object))
			for i, rule := range object.Spec.Rules {
				c.checkWeights(o, i, connectionBackends(rule.BackendRefs))
			}
		case *gatewayv1.TCPRoute:
			c.checkRoute(o, object.Spec.ParentRefs, mesh.TCPRouteFaults(object))
			for i, rule := range object.Spec.Rules {
				c.checkWeights(o, i, connectionBackends(rule.BackendRefs))
			}
		case *gatewayv1.UDPRoute:
			c.checkRoute(o, object.Spec.ParentRefs, mesh.UDPRouteFaults(object))
			for i, rule := range object.Spec.Rules {
				c.checkWeights(o, i, connectionBackends(rule.BackendRefs))
			}
		case *gatewayv1.GatewayClass:
			c.checkParameters(o, object)
		case *gatewayv1.Gateway:
			c.checkClass(o, object)
		case *gatewayv1.ListenerSet:
			c.checkSet(o, object)
		case *v1alpha1.AuthorizationPolicy:
			faults, effect := mesh.PolicyFaults(object)
			for _, f := range faults {
				c.add(o.finding(severityError, f.Field, f.Value, effect, f.Want))
			}
			if len(faults) == 0 {
				c.checkMeaning(o, object)
			}
		case *unstructured.Unstructured:
			c.checkPodSecurity(o, object)
		default:
			c.checkService(o)
		}
	}
	for _, parent := range c.after.parents() {
		c.checkAttached(c.after.routes(parent))
		c.checkReferences(mesh.UnresolvedRefs(parent, c.after.Inputs(parent)))
	}
	c.checkGateways()
	c.checkPolicies()
	c.checkBroken()
	c.checkShadows()
	return c.findings
}

// checkService reports problems that Mizzen works around.
func (c *checker) checkService(o *fileObject) {
	if o.kind != "Service" {
		return
	}
	for _, p := range c.after.problems(mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()}) {
		s := severityWarning
		if p.Reason == "BadAnnotation" {
			s = severityError
		}
		c.add(o.finding(s, p.Field, p.Value, p.Effect, p.Allowed))
	}
}

func (c *checker) checkRoute(o *fileObject, parents []gatewayv1.ParentReference, faults []mesh.Fault) {
	for _, f := range faults {
		effect := fmt.Sprintf("rule %d is dropped", f.Rule)
		if f.WholeRoute {
			effect = "the route is not accepted"
		}
		c.add(o.finding(severityError, f.Field, f.Value, effect, f.Want))
	}
	if len(parents) == 0 {
		c.add(o.finding(severityWarning, "spec.parentRefs", "", "none: the route has no effect", `a Service: {group: "", kind: Service, name: …}, or a Gateway: {name: …}`))
	}
	c.checkParents(o, parents...)
	for i, ref := range parents {
		field := fmt.Sprintf("spec.parentRefs[%d]", i)
		isService := ref.Kind != nil && *ref.Kind == "Service"
		switch { // the defaults are a Gateway of the Gateway API
		case isService && ref.Group == nil:
			c.add(o.finding(severityError, field+".group", "", "missing, which means "+gatewayv1.GroupName, `"" for a Service`))
		case isService && *ref.Group != "":
			c.add(o.finding(severityError, field+".group", string(*ref.Group), "not the group of Services", `""`))
		case ref.Kind == nil && ref.Group != nil && *ref.Group == "":
			c.add(o.finding(severityError, field+".kind", "", "missing, which means Gateway", "Service"))
		}
	}
}

// backends of a rule, as needed for weights.
type backends struct {
	weights []*int32
	// redirected, so backends do not matter.
	answered bool
	// effect of having none, and the allowed values.
	effect, want string
}

func httpBackends(rule gatewayv1.HTTPRouteRule) backends {
	out := backends{effect: "every request that matches the rule gets 500", want: "a backend, or a RequestRedirect"}
	look := func(filters []gatewayv1.HTTPRouteFilter) {
		for _, f := range filters {
			out.answered = out.answered || f.Type == gatewayv1.HTTPRouteFilterRequestRedirect
		}
	}
	look(rule.Filters)
	for _, b := range rule.BackendRefs {
		look(b.Filters)
		out.weights = append(out.weights, b.Weight)
	}
	return out
}

func grpcBackends(rule gatewayv1.GRPCRouteRule) backends {
	out := backends{effect: "every request that matches the rule gets UNAVAILABLE", want: "a backend, or a RequestRedirect"}
	for _, b := range rule.BackendRefs {
		out.weights = append(out.weights, b.Weight)
	}
	return out
}

func connectionBackends(refs []gatewayv1.BackendRef) backends {
	out := backends{effect: "every connection that matches the rule is closed", want: "a backend"}
	for _, b := range refs {
		out.weights = append(out.weights, b.Weight)
	}
	return out
}

func (c *checker) checkWeights(o *fileObject, i int, b backends) {
	if b.answered {
		return
	}
	for _, w := range b.weights {
		if w == nil || *w != 0 { // a negative one is a fault
			return
		}
	}
	field := fmt.Sprintf("spec.rules[%d].backendRefs", i)
	if len(b.weights) == 0 {
		c.add(o.finding(severityError, field, "", "none: "+b.effect, b.want))
		return
	}
	c.add(o.finding(severityError, field, "", "the weights sum to 0: "+b.effect, "a weight above 0"))
}
