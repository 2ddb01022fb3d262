package mesh

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// corsOrigin is an origin of a filter CORS: a scheme, a host that may begin with "*", and a port.
var corsOrigin = regexp.MustCompile(`^([a-z][a-z0-9+.-]*)://(\*|(?:\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?$`)

// readCORS reads a filter CORS. Browsers leave out the port that the scheme implies, so such an origin matches both spellings.
func readCORS(field string, o gatewayv1.HTTPCORSFilter, f *faults) *CORS {
	out := &CORS{AllowCredentials: deref(o.AllowCredentials), MaxAge: 5 * time.Second}
	if o.MaxAge != 0 {
		if o.MaxAge < 1 {
			f.add(field+".maxAge", o.MaxAge, "1 or more seconds")
		}
		out.MaxAge = time.Duration(o.MaxAge) * time.Second
	}
	for i, origin := range o.AllowOrigins {
		text := strings.ToLower(string(origin))
		if text == "*" {
			out.AnyOrigin = true
			continue
		}
		parts := corsOrigin.FindStringSubmatch(text)
		if parts == nil {
			f.add(fmt.Sprintf("%s.allowOrigins[%d]", field, i), origin, `"*", or a scheme, "://", a host that may begin with "*", and perhaps a port`)
			continue
		}
		out.AllowOrigins = append(out.AllowOrigins, originPattern(parts[1], parts[2], parts[5]))
	}
	for i, method := range o.AllowMethods {
		if method != "*" {
			if _, ok := methods[string(method)]; !ok {
				f.unknown(fmt.Sprintf("%s.allowMethods[%d]", field, i), method, `"*", GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE or PATCH`)
			}
		}
		out.AllowMethods = append(out.AllowMethods, string(method))
	}
	headers := func(name string, list []gatewayv1.HTTPHeaderName) []string {
		var out []string
		for i, h := range list {
			checkHeaderName(fmt.Sprintf("%s.%s[%d]", field, name, i), string(h), f)
			out = append(out, string(h))
		}
		return out
	}
	out.AllowHeaders, out.ExposeHeaders = headers("allowHeaders", o.AllowHeaders), headers("exposeHeaders", o.ExposeHeaders)
	return out
}

// originPattern returns an expression for the origins that are allowed. "*" stands for any number of labels on the left.
func originPattern(scheme, host, port string) string {
	pattern := regexp.QuoteMeta(scheme) + "://"
	if rest, wild := strings.CutPrefix(host, "*"); wild {
		pattern += `[^/]+` + regexp.QuoteMeta(rest)
	} else {
		pattern += regexp.QuoteMeta(host)
	}
	implied := map[string]string{"http": "80", "https": "443"}[scheme]
	switch {
	case host == "*" && port == "":
		return pattern // which takes the port, too
	case port == implied || port == "":
		return pattern + "(?::" + implied + ")?"
	}
	return pattern + ":" + port
}

// authHeaders are those that a server over HTTP always gets.
var authHeaders = []string{"host", "content-length", "authorization"}

func readExternalAuth(field string, o gatewayv1.HTTPExternalAuthFilter, f *faults) *authRef {
	out := &authRef{field: field + ".backendRef", ref: o.BackendRef}
	names := func(name string, list []string) []string {
		var out []string
		for i, h := range list {
			checkHeaderName(fmt.Sprintf("%s.%s[%d]", field, name, i), h, f)
			if lower := strings.ToLower(h); !slices.Contains(out, lower) {
				out = append(out, lower)
			}
		}
		return out
	}
	switch o.ExternalAuthProtocol {
	case gatewayv1.HTTPRouteExternalAuthGRPCProtocol:
		out.GRPC = true
		if c := o.GRPCAuthConfig; c != nil {
			out.RequestHeaders = names("grpc.allowedHeaders", c.AllowedRequestHeaders)
		}
	case gatewayv1.HTTPRouteExternalAuthHTTPProtocol:
		out.RequestHeaders = slices.Clone(authHeaders)
		if c := o.HTTPAuthConfig; c != nil {
			out.RequestHeaders = append(out.RequestHeaders, names("http.allowedHeaders", c.AllowedRequestHeaders)...)
			out.ResponseHeaders = names("http.allowedResponseHeaders", c.AllowedResponseHeaders)
			if out.Path = strings.TrimSuffix(c.Path, "/"); out.Path != "" && !pathPattern.MatchString(out.Path) {
				f.add(field+".http.path", c.Path, `a path that begins with "/"`)
			}
		}
	default:
		f.unknown(field+".protocol", o.ExternalAuthProtocol, "HTTP or GRPC")
	}
	if o.ForwardBody != nil {
		out.BodyBytes = uint32(o.ForwardBody.MaxSize)
	}
	return out
}
