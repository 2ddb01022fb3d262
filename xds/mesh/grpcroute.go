package mesh

import (
	"fmt"
	"regexp"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// readGRPCRoute reads a GRPCRoute. A GRPCRoute without rules attaches and matches nothing.
func readGRPCRoute(o *gatewayv1.GRPCRoute, gateway bool) *route {
	r := newRoute(KindGRPCRoute, o.Namespace, o.Name, o.CreationTimestamp.Time, o.Generation, o.Spec.ParentRefs)
	r.hostnames, r.gateway = o.Spec.Hostnames, gateway
	for i, rule := range o.Spec.Rules {
		r.rules = append(r.rules, readGRPCRule(r, i, rule))
	}
	r.finish(o.Annotations)
	return r
}

func readGRPCRule(r *route, i int, o gatewayv1.GRPCRouteRule) routeRule {
	field := fmt.Sprintf("spec.rules[%d]", i)
	rule := routeRule{origin: r.origin(i, o.Name)}
	f := &rule.faults
	matches := o.Matches
	if len(matches) == 0 { // "the implementation MUST match every gRPC request"
		matches = []gatewayv1.GRPCRouteMatch{{}}
	}
	for j, m := range matches {
		rule.matches = append(rule.matches, readGRPCMatch(fmt.Sprintf("%s.matches[%d]", field, j), m, f))
	}
	rule.filters = readFilters(field, asHTTP(o.Filters), r.gateway, f)
	for j, b := range o.BackendRefs {
		name := fmt.Sprintf("%s.backendRefs[%d]", field, j)
		ref := newBackendRef(name, b.BackendRef, f)
		ref.filters = readFilters(name, asHTTP(b.Filters), r.gateway, f)
		rule.backends = append(rule.backends, ref)
	}
	rule.liftFilters(f)
	rule.readSession(field+".sessionPersistence", o.SessionPersistence, f)
	return rule
}

// asHTTP converts the filters of a GRPCRoute. Each is also a filter of HTTPRoutes.
func asHTTP(filters []gatewayv1.GRPCRouteFilter) []gatewayv1.HTTPRouteFilter {
	out := make([]gatewayv1.HTTPRouteFilter, len(filters))
	for i, f := range filters {
		out[i] = gatewayv1.HTTPRouteFilter{
			Type:                   gatewayv1.HTTPRouteFilterType(f.Type),
			RequestHeaderModifier:  f.RequestHeaderModifier,
			ResponseHeaderModifier: f.ResponseHeaderModifier,
			RequestMirror:          f.RequestMirror,
			ExtensionRef:           f.ExtensionRef,
		}
	}
	return out
}

func readGRPCMatch(field string, o gatewayv1.GRPCRouteMatch, f *faults) Match {
	m := Match{GRPC: &GRPCMatch{}}
	if o.Method != nil {
		m.GRPC.Service = readGRPCName(field+".method.service", o.Method.Type, o.Method.Service, f)
		m.GRPC.Method = readGRPCName(field+".method.method", o.Method.Type, o.Method.Method, f)
	}
	m.Path = m.GRPC.path()
	for i, h := range o.Headers {
		name := fmt.Sprintf("%s.headers[%d]", field, i)
		checkHeaderName(name+".name", string(h.Name), f)
		m.addHeader(string(h.Name), readText(name, (*string)(h.Type), h.Value, f))
	}
	return m
}

var grpcName = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)

// readGRPCName reads the match on a service or a method, or returns nil for any.
func readGRPCName(field string, kind *gatewayv1.GRPCMethodMatchType, value *string, f *faults) *TextMatch {
	if deref(value) == "" {
		return nil
	}
	text := readText(field, (*string)(kind), *value, f)
	if text.Type == Exact && !grpcName.MatchString(*value) {
		f.add(field, *value, "letters, digits, _ and .")
	}
	return &text
}

// path returns the match on the path of a call, "/<service>/<method>".
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests
func (g GRPCMatch) path() TextMatch {
	service, method := g.Service, g.Method
	switch {
	case service == nil && method == nil:
		return TextMatch{Prefix, "/"}
	case service != nil && method == nil && service.Type == Exact:
		return TextMatch{Prefix, "/" + service.Value}
	case service != nil && method != nil && service.Type == Exact && method.Type == Exact:
		return TextMatch{Exact, "/" + service.Value + "/" + method.Value}
	default:
		return TextMatch{Regex, "/" + service.pattern() + "/" + method.pattern()}
	}
}

func (t *TextMatch) pattern() string {
	switch {
	case t == nil:
		return "[^/]+"
	case t.Type == Regex:
		return "(?:" + t.Value + ")"
	default:
		return regexp.QuoteMeta(t.Value)
	}
}
