package mesh

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// filters are the filters of a rule or of a backend, as read. The order of different types does not matter, because they
// change different things.
type filters struct {
	request, response HeaderChange
	rewrite           Rewrite
	redirect          *Redirect
	mirrors           []mirrorRef
	cors              *CORS
	auth              *authRef
	// unresolved are extension filters, which Mizzen cannot run: "the filter MUST NOT be skipped. Instead,
	// requests that would have been processed by that filter MUST receive a HTTP error response."
	unresolved []unresolvedRef
}

type mirrorRef struct {
	field      string
	ref        gatewayv1.BackendObjectReference
	perMillion uint32
}

// authRef is a filter ExternalAuth before its reference is resolved.
type authRef struct {
	field string
	ref   gatewayv1.BackendObjectReference
	ExternalAuth
}

// readFilters reads the filters of a rule or a backend, for a Gateway or for Services.
func readFilters(field string, list []gatewayv1.HTTPRouteFilter, gateway bool, f *faults) filters {
	var out filters
	for i, o := range list {
		name := fmt.Sprintf("%s.filters[%d]", field, i)
		missing := func(absent bool) bool {
			if absent {
				f.add(name, o.Type, "the settings of this type")
			}
			return absent
		}
		switch o.Type {
		case gatewayv1.HTTPRouteFilterRequestHeaderModifier:
			if !missing(o.RequestHeaderModifier == nil) {
				out.request = readHeaders(name+".requestHeaderModifier", *o.RequestHeaderModifier, f)
			}
		case gatewayv1.HTTPRouteFilterResponseHeaderModifier:
			if !missing(o.ResponseHeaderModifier == nil) {
				out.response = readHeaders(name+".responseHeaderModifier", *o.ResponseHeaderModifier, f)
			}
		case gatewayv1.HTTPRouteFilterRequestMirror:
			if !missing(o.RequestMirror == nil) {
				out.mirrors = append(out.mirrors, readMirror(name+".requestMirror", *o.RequestMirror, f))
			}
		case gatewayv1.HTTPRouteFilterRequestRedirect:
			if !missing(o.RequestRedirect == nil) {
				out.redirect = readRedirect(name+".requestRedirect", *o.RequestRedirect, f)
			}
		case gatewayv1.HTTPRouteFilterURLRewrite:
			if !missing(o.URLRewrite == nil) {
				out.rewrite = Rewrite{
					Hostname: readHostname(name+".urlRewrite.hostname", o.URLRewrite.Hostname, f),
					Path:     readPathChange(name+".urlRewrite.path", o.URLRewrite.Path, f),
				}
			}
		case gatewayv1.HTTPRouteFilterExtensionRef:
			out.unresolved = append(out.unresolved, unresolvedRef{gatewayv1.RouteReasonInvalidKind, name, string(o.Type) + " is not supported"})
		case gatewayv1.HTTPRouteFilterExternalAuth:
			switch {
			case !gateway:
				out.unresolved = append(out.unresolved, unresolvedRef{gatewayv1.RouteReasonInvalidKind, name, string(o.Type) + " is not supported for a Service"})
			case !missing(o.ExternalAuth == nil):
				out.auth = readExternalAuth(name+".externalAuth", *o.ExternalAuth, f)
			}
		case gatewayv1.HTTPRouteFilterCORS:
			switch {
			case !gateway: // not a mesh feature in v1.6: pkg/features/mesh.go
				f.add(name+".type", o.Type, "a filter other than CORS, which Mizzen does not support for a Service")
			case !missing(o.CORS == nil):
				out.cors = readCORS(name+".cors", *o.CORS, f)
			}
		default:
			f.unknown(name+".type", o.Type, "RequestHeaderModifier, ResponseHeaderModifier, RequestMirror, RequestRedirect, URLRewrite or ExtensionRef")
		}
	}
	return out
}

var headerName = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+\\-.^_`|~]+$")

func checkHeaderName(field, name string, f *faults) {
	if !headerName.MatchString(name) {
		f.add(field, name, "the name of a header")
	}
}

// checkChangedHeader checks the name of a header that a filter changes, and returns it in lower case.
func checkChangedHeader(field, name string, f *faults) string {
	checkHeaderName(field, name, f)
	lower := strings.ToLower(name)
	switch lower {
	case "host": // Envoy refuses the configuration
		f.add(field, name, "a header other than Host: use URLRewrite's hostname")
	case "content-length", "transfer-encoding", "connection": // a wrong value cuts or joins messages
		f.add(field, name, "a header that does not frame messages")
	}
	return lower
}

func readHeaders(field string, o gatewayv1.HTTPHeaderFilter, f *faults) HeaderChange {
	check := func(field, name string) string { return checkChangedHeader(field, name, f) }
	list := func(kind string, headers []gatewayv1.HTTPHeader) []Header {
		var out []Header
		for i, h := range headers {
			name := fmt.Sprintf("%s.%s[%d]", field, kind, i)
			if strings.ContainsAny(h.Value, "\x00\r\n") {
				f.add(name+".value", h.Value, "a value without line breaks")
			}
			key := check(name+".name", string(h.Name))
			// "If multiple entries specify equivalent header names, the first entry … MUST be considered"
			if !slices.ContainsFunc(out, func(o Header) bool { return o.Name == key }) {
				out = append(out, Header{key, h.Value})
			}
		}
		return out
	}
	change := HeaderChange{Set: list("set", o.Set), Add: list("add", o.Add)}
	for i, name := range o.Remove {
		change.Remove = append(change.Remove, check(fmt.Sprintf("%s.remove[%d]", field, i), name))
	}
	return HeaderChange{}.then(change)
}

// then returns the change that does h and then next. Within one filter, set comes first, then add, then remove.
func (h HeaderChange) then(next HeaderChange) HeaderChange {
	out := HeaderChange{Set: slices.Clone(h.Set), Add: slices.Clone(h.Add), Remove: slices.Clone(h.Remove)}
	forget := func(name string) {
		is := func(o Header) bool { return o.Name == name }
		out.Set, out.Add = slices.DeleteFunc(out.Set, is), slices.DeleteFunc(out.Add, is)
		out.Remove = slices.DeleteFunc(out.Remove, func(n string) bool { return n == name })
	}
	for _, s := range next.Set {
		forget(s.Name)
		out.Set = append(out.Set, s)
	}
	for _, a := range next.Add {
		if i := slices.Index(out.Remove, a.Name); i >= 0 { // removed, then added: set
			out.Remove = slices.Delete(out.Remove, i, i+1)
			out.Set = append(out.Set, a)
			continue
		}
		out.Add = append(out.Add, a)
	}
	for _, name := range next.Remove {
		forget(name)
		out.Remove = append(out.Remove, name)
	}
	return out
}

func readMirror(field string, o gatewayv1.HTTPRequestMirrorFilter, f *faults) mirrorRef {
	const all = 1_000_000
	m := mirrorRef{field: field + ".backendRef", ref: o.BackendRef, perMillion: all}
	switch {
	case o.Percent != nil:
		if *o.Percent < 0 || *o.Percent > 100 {
			f.add(field+".percent", *o.Percent, "0 to 100")
		}
		m.perMillion = uint32(*o.Percent) * (all / 100)
	case o.Fraction != nil:
		whole := int32(100)
		if o.Fraction.Denominator != nil {
			whole = *o.Fraction.Denominator
		}
		if n := o.Fraction.Numerator; n < 0 || whole < 1 || n > whole {
			f.add(field+".fraction", fmt.Sprintf("%d/%d", n, whole), "0 to 1")
			break
		}
		m.perMillion = uint32(int64(o.Fraction.Numerator) * all / int64(whole))
	}
	return m
}

func readRedirect(field string, o gatewayv1.HTTPRequestRedirectFilter, f *faults) *Redirect {
	r := &Redirect{
		Scheme:   deref(o.Scheme),
		Hostname: readHostname(field+".hostname", o.Hostname, f),
		Port:     uint16(deref(o.Port)),
		Path:     readPathChange(field+".path", o.Path, f),
		Status:   302,
	}
	if r.Scheme != "" && r.Scheme != "http" && r.Scheme != "https" {
		f.unknown(field+".scheme", r.Scheme, "http or https")
	}
	if p := o.Port; p != nil && (*p < 1 || *p > 65535) {
		f.add(field+".port", *p, "1 to 65535")
	}
	if o.StatusCode != nil {
		r.Status = uint32(*o.StatusCode)
	}
	if !slices.Contains([]uint32{301, 302, 303, 307, 308}, r.Status) {
		f.unknown(field+".statusCode", r.Status, "301, 302, 303, 307 or 308")
	}
	return r
}

var hostname = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

func readHostname(field string, name *gatewayv1.PreciseHostname, f *faults) string {
	if name != nil && !hostname.MatchString(string(*name)) {
		f.add(field, *name, "a host name in lower case")
	}
	return string(deref(name))
}

func readPathChange(field string, o *gatewayv1.HTTPPathModifier, f *faults) *PathChange {
	if o == nil {
		return nil
	}
	change := &PathChange{Full: o.Type == gatewayv1.FullPathHTTPPathModifier}
	name := ".replacePrefixMatch"
	switch o.Type {
	case gatewayv1.FullPathHTTPPathModifier:
		name, change.Value = ".replaceFullPath", deref(o.ReplaceFullPath)
	case gatewayv1.PrefixMatchHTTPPathModifier:
		change.Value = deref(o.ReplacePrefixMatch)
	default:
		f.unknown(field+".type", o.Type, "ReplaceFullPath or ReplacePrefixMatch")
	}
	if change.Value == "" {
		change.Value = "/"
	}
	if !pathPattern.MatchString(change.Value) {
		f.add(field+name, change.Value, `a path that begins with "/"`)
	}
	return change
}
