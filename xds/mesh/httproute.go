package mesh

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// readHTTPRoute reads an HTTPRoute. It checks again what the schema checks, where Envoy would refuse the configuration:
// objects also come from files, and from CRDs of other versions.
//
// gateway is true if it is read for a Gateway, which has filters that sidecars do not have.
func readHTTPRoute(o *gatewayv1.HTTPRoute, gateway bool) *route {
	r := newRoute(KindHTTPRoute, o.Namespace, o.Name, o.CreationTimestamp.Time, o.Generation, o.Spec.ParentRefs)
	r.gateway = gateway
	r.hostnames = o.Spec.Hostnames
	rules := o.Spec.Rules
	if len(rules) == 0 { // the default of the schema
		rules = []gatewayv1.HTTPRouteRule{{}}
	}
	for i, rule := range rules {
		r.rules = append(r.rules, readHTTPRule(r, i, rule))
	}
	r.finish(o.Annotations)
	return r
}

func readHTTPRule(r *route, i int, o gatewayv1.HTTPRouteRule) routeRule {
	field := fmt.Sprintf("spec.rules[%d]", i)
	rule := routeRule{origin: r.origin(i, o.Name)}
	f := &rule.faults
	matches := o.Matches
	if len(matches) == 0 { // the default of the schema
		matches = []gatewayv1.HTTPRouteMatch{{}}
	}
	for j, m := range matches {
		rule.matches = append(rule.matches, readHTTPMatch(fmt.Sprintf("%s.matches[%d]", field, j), m, f))
	}
	rule.filters = readFilters(field, o.Filters, r.gateway, f)
	for j, b := range o.BackendRefs {
		name := fmt.Sprintf("%s.backendRefs[%d]", field, j)
		ref := newBackendRef(name, b.BackendRef, f)
		ref.filters = readFilters(name, b.Filters, r.gateway, f)
		rule.backends = append(rule.backends, ref)
	}
	rule.liftFilters(f)
	rule.calls = readHTTPCalls(field, o, f)
	checkRewrites(rule, field, f)
	rule.readSession(field+".sessionPersistence", o.SessionPersistence, f)
	return rule
}

func readHTTPMatch(field string, o gatewayv1.HTTPRouteMatch, f *faults) Match {
	m := Match{Path: TextMatch{Prefix, "/"}, Method: string(deref(o.Method))}
	if o.Path != nil {
		m.Path = readPath(field+".path", *o.Path, f)
	}
	if _, ok := methods[m.Method]; m.Method != "" && !ok {
		f.unknown(field+".method", m.Method, "GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE or PATCH")
	}
	for i, h := range o.Headers {
		name := fmt.Sprintf("%s.headers[%d]", field, i)
		checkHeaderName(name+".name", string(h.Name), f)
		m.addHeader(string(h.Name), readText(name, (*string)(h.Type), h.Value, f))
	}
	for i, q := range o.QueryParams {
		name := fmt.Sprintf("%s.queryParams[%d]", field, i)
		if q.Name == "" {
			f.add(name+".name", q.Name, "a name")
		}
		text := readText(name, (*string)(q.Type), q.Value, f)
		m.addQuery(string(q.Name), text)
	}
	return m
}

var methods = map[string]struct{}{
	"GET": {}, "HEAD": {}, "POST": {}, "PUT": {}, "DELETE": {}, "CONNECT": {}, "OPTIONS": {}, "TRACE": {}, "PATCH": {},
}

// addHeader adds a condition. Of several conditions for equivalent names, the first counts.
func (m *Match) addHeader(name string, text TextMatch) {
	m.Headers = addField(m.Headers, strings.ToLower(name), text)
}

func (m *Match) addQuery(name string, text TextMatch) { m.Query = addField(m.Query, name, text) }

func addField(fields []FieldMatch, name string, text TextMatch) []FieldMatch {
	for _, f := range fields {
		if f.Name == name {
			return fields
		}
	}
	return append(fields, FieldMatch{name, text})
}

const (
	wantPath  = `a path that begins with "/" and contains none of "//", "/./", "/../", "%2f", "#" and "?", and no character that is invalid in a path`
	wantRegex = "an RE2 expression"
)

var pathPattern = regexp.MustCompile(`^/(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|%[0-9a-fA-F]{2})*$`)

// validPath reports whether the schema allows an exact path or a prefix.
func validPath(path string) bool {
	if !pathPattern.MatchString(path) || strings.HasSuffix(path, "/..") || strings.HasSuffix(path, "/.") {
		return false
	}
	for _, part := range []string{"//", "/./", "/../", "%2f", "%2F"} {
		if strings.Contains(path, part) {
			return false
		}
	}
	return true
}

func readPath(field string, o gatewayv1.HTTPPathMatch, f *faults) TextMatch {
	value := "/"
	if o.Value != nil {
		value = *o.Value
	}
	kind := gatewayv1.PathMatchPathPrefix
	if o.Type != nil {
		kind = *o.Type
	}
	switch kind {
	case gatewayv1.PathMatchExact, gatewayv1.PathMatchPathPrefix:
		if !validPath(value) {
			f.add(field+".value", value, wantPath)
		}
		if kind == gatewayv1.PathMatchExact {
			return TextMatch{Exact, value}
		}
		if value != "/" { // "When specified, a trailing / is ignored."
			value = strings.TrimSuffix(value, "/")
		}
		return TextMatch{Prefix, value}
	case gatewayv1.PathMatchRegularExpression:
		return readRegex(field, value, f)
	default:
		f.unknown(field+".type", kind, "Exact, PathPrefix or RegularExpression")
		return TextMatch{}
	}
}

// readText reads the match on a header, query parameter or name.
func readText(field string, kind *string, value string, f *faults) TextMatch {
	switch MatchType(deref(kind)) {
	case "", Exact:
		if strings.ContainsAny(value, "\x00\r\n") {
			f.add(field+".value", value, "a value without line breaks")
		}
		return TextMatch{Exact, value}
	case Regex:
		return readRegex(field, value, f)
	default:
		f.unknown(field+".type", *kind, "Exact or RegularExpression")
		return TextMatch{}
	}
}

func readRegex(field, value string, f *faults) TextMatch {
	if problem := checkRegex(value); problem != "" {
		f.add(field+".value", value, wantRegex+" ("+problem+")")
	}
	return TextMatch{Regex, value}
}

// readHTTPCalls reads timeouts and retry, which win over annotations.
func readHTTPCalls(field string, o gatewayv1.HTTPRouteRule, f *faults) config.Calls {
	var calls config.Calls
	duration := func(name string, text *gatewayv1.Duration) *time.Duration {
		if text == nil {
			return nil
		}
		d, ok := config.ParseDuration(string(*text))
		if !ok {
			f.add(field+name, *text, "a Gateway API duration such as 500ms, 10s or 1m30s")
			return nil
		}
		return &d
	}
	if t := o.Timeouts; t != nil {
		calls.Timeout = duration(".timeouts.request", t.Request)
		calls.BackendTimeout = duration(".timeouts.backendRequest", t.BackendRequest)
		if a, b := deref(calls.Timeout), deref(calls.BackendTimeout); a > 0 && b > a {
			f.add(field+".timeouts.backendRequest", b, "at most timeouts.request, "+a.String())
		}
	}
	if o.Retry != nil {
		// "Implementations SHOULD retry on connection errors (disconnect, reset, timeout, TCP failure)"
		calls.RetryOn = []string{"reset"}
		for i, code := range o.Retry.Codes {
			if code < 400 || code > 599 {
				f.add(fmt.Sprintf("%s.retry.codes[%d]", field, i), code, "400 to 599")
			}
			calls.RetryOn = append(calls.RetryOn, strconv.Itoa(int(code)))
		}
		if n := o.Retry.Attempts; n != nil {
			if *n < 1 || *n > 1000 {
				f.add(field+".retry.attempts", *n, "1 to 1000")
			}
			calls.RetryAttempts = new(int32(*n))
		}
		if d := duration(".retry.backoff", o.Retry.Backoff); d != nil && *d > 0 {
			calls.RetryBackoff = d
		}
	}
	return calls
}
