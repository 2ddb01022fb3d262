package envoy

import (
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// rewrite changes host and path of a request on its way to a backend.
func rewrite(action *routev3.RouteAction, r mesh.Rewrite, m mesh.Match) {
	if r.Hostname != "" {
		action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: r.Hostname}
	}
	switch prefix, re := pathRewrite(r.Path, m); {
	case prefix != "":
		action.PrefixRewrite = prefix
	case re != nil:
		action.RegexRewrite = re
	}
}

// pathRewrite returns a new prefix, or an expression with its substitution, or nothing. The table of prefix rewrites:
// https://gateway-api.sigs.k8s.io/reference/spec/#httppathmodifier
func pathRewrite(p *mesh.PathChange, m mesh.Match) (prefix string, re *matcherv3.RegexMatchAndSubstitute) {
	if p == nil {
		return "", nil
	}
	if p.Full {
		return "", substitute("^.+$", p.Value)
	}
	from, to := strings.TrimSuffix(m.Path.Value, "/"), strings.TrimSuffix(p.Value, "/")
	switch {
	case to != "":
		// For "/" Envoy matches the empty prefix (routeMatches): "/a" becomes to + "/a".
		return to, nil
	case from == "":
		return "", nil // "/" to "/"
	default:
		// A prefix rewrite to "/" turns "/prefix/a" into "//a", one to "" turns "/prefix" into "".
		return "", substitute("^"+regexp.QuoteMeta(from)+"/*", "/")
	}
}

func substitute(pattern, with string) *matcherv3.RegexMatchAndSubstitute {
	return &matcherv3.RegexMatchAndSubstitute{Pattern: regex(pattern), Substitution: strings.ReplaceAll(with, `\`, `\\`)}
}

var redirectCodes = map[uint32]routev3.RedirectAction_RedirectResponseCode{
	301: routev3.RedirectAction_MOVED_PERMANENTLY,
	302: routev3.RedirectAction_FOUND,
	303: routev3.RedirectAction_SEE_OTHER,
	307: routev3.RedirectAction_TEMPORARY_REDIRECT,
	308: routev3.RedirectAction_PERMANENT_REDIRECT,
}

// origin is where a call was made to.
type origin struct {
	scheme string
	port   uint16
}

var wellKnownPort = map[string]uint16{"http": 80, "https": 443}

// redirect answers with another location. Its port is the given one, or else that of the given scheme, or else that of the
// call. It is left out if the scheme implies it.
// https://gateway-api.sigs.k8s.io/reference/spec/#httprequestredirectfilter
func (t translation) redirect(r *mesh.Redirect, m mesh.Match) *routev3.RedirectAction {
	out := &routev3.RedirectAction{HostRedirect: r.Hostname, ResponseCode: redirectCodes[r.Status]}
	listener := origin{"http", t.key.Port}
	if t.edge != nil {
		listener = t.edge.origin
	}
	scheme, port := listener.scheme, listener.port
	if r.Scheme != "" {
		scheme, port = r.Scheme, wellKnownPort[r.Scheme]
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: r.Scheme}
	}
	if r.Port != 0 {
		port = r.Port
	}
	// Without a port Envoy keeps the one in the request's Host, unless that is :80 and the scheme changes. So the port may be
	// left out only with a new host name, or if the request has no port or that of its scheme.
	if implied := port == wellKnownPort[scheme]; !implied || (r.Hostname == "" && listener.port != wellKnownPort[listener.scheme]) {
		out.PortRedirect = uint32(port)
	}
	if r.Path == nil {
		return out
	}
	if r.Path.Full {
		out.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: r.Path.Value}
		return out
	}
	switch prefix, re := pathRewrite(r.Path, m); {
	case prefix != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: prefix}
	case re != nil:
		out.PathRewriteSpecifier = &routev3.RedirectAction_RegexRewrite{RegexRewrite: re}
	}
	return out
}
