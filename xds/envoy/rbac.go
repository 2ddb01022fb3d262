package envoy

import (
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// stage is one RBAC filter: the Deny policies, or the Allow policies, either as they are enforced or as if those in dry run
// were, too. Calls that an enforced stage refuses do not reach the later stages.
type stage struct {
	deny, shadow bool
	rules        *rbacv3.RBAC
}

// stages returns the filters for the policies at one port, in order.
func stages(policies []mesh.Policy, trustDomain string) []stage {
	var deny, allow, dryDeny, dryAllow []mesh.Policy
	for _, p := range policies {
		switch {
		case p.Deny && p.DryRun:
			dryDeny = append(dryDeny, p)
		case p.Deny:
			deny = append(deny, p)
		case p.DryRun:
			dryAllow = append(dryAllow, p)
		default:
			allow = append(allow, p)
		}
	}
	var out []stage
	add := func(deny, shadow bool, policies []mesh.Policy) {
		out = append(out, stage{deny, shadow, rbac(policies, deny, trustDomain)})
	}
	if len(deny) > 0 {
		add(true, false, deny)
	}
	if len(allow) > 0 {
		add(false, false, allow)
	}
	if len(dryDeny) > 0 {
		add(true, true, dryDeny)
	}
	if len(dryAllow) > 0 { // a call that either of them allows is not refused
		add(false, true, append(dryAllow, allow...))
	}
	return out
}

// rbac has the policies by name. Envoy reports the name of the policy that decided, the first by name if there are
// several. A policy without rules matches nothing.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/rbac/v3/rbac.proto
func rbac(policies []mesh.Policy, deny bool, trustDomain string) *rbacv3.RBAC {
	out := &rbacv3.RBAC{Action: rbacv3.RBAC_ALLOW, Policies: map[string]*rbacv3.Policy{}}
	if deny {
		out.Action = rbacv3.RBAC_DENY
	}
	for _, p := range policies {
		if len(p.Rules) == 0 {
			continue
		}
		policy := &rbacv3.Policy{Permissions: []*rbacv3.Permission{{Rule: &rbacv3.Permission_Any{Any: true}}}}
		for _, r := range p.Rules {
			policy.Principals = append(policy.Principals, rulePrincipal(r, deny, trustDomain))
		}
		out.Policies[p.Name] = policy
	}
	return out
}

// rulePrincipal returns a principal for the whole rule: in Envoy a principal can match the request as well as the caller.
func rulePrincipal(r mesh.CallRule, deny bool, trustDomain string) *rbacv3.Principal {
	var parts []*rbacv3.Principal
	if len(r.From) > 0 {
		var callers []*rbacv3.Principal
		for _, c := range r.From {
			callers = append(callers, callerPrincipal(c, trustDomain))
		}
		parts = append(parts, anyOf(callers))
	}
	if len(r.HTTP) > 0 {
		var requests []*rbacv3.Principal
		for _, m := range r.HTTP {
			requests = append(requests, requestPrincipal(m, deny))
		}
		parts = append(parts, anyOf(requests))
	}
	return allOf(parts)
}

// callerPrincipal returns a principal that never matches a caller without a certificate.
func callerPrincipal(c mesh.Caller, trustDomain string) *rbacv3.Principal {
	name := exactly(mesh.SPIFFEID(trustDomain, c.Namespace, c.ServiceAccount))
	if c.ServiceAccount == "" {
		name = prefixed(mesh.SPIFFEID(trustDomain, c.Namespace, ""))
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_Authenticated_{
		Authenticated: &rbacv3.Principal_Authenticated{PrincipalName: name},
	}}
}

func requestPrincipal(m mesh.HTTPMatch, deny bool) *rbacv3.Principal {
	var parts []*rbacv3.Principal
	if len(m.Methods) > 0 {
		var methods []*rbacv3.Principal
		for _, method := range m.Methods {
			methods = append(methods, &rbacv3.Principal{Identifier: &rbacv3.Principal_Header{Header: &routev3.HeaderMatcher{
				Name: ":method", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: exactly(method)},
			}}})
		}
		parts = append(parts, anyOf(methods))
	}
	if m.Path != nil {
		parts = append(parts, pathPrincipal(*m.Path, deny))
	}
	return allOf(parts)
}

// pathPrincipal compares plain paths. See mesh.PlainPath about other paths.
func pathPrincipal(t mesh.TextMatch, deny bool) *rbacv3.Principal {
	var same *rbacv3.Principal
	switch t.Type {
	case mesh.Exact:
		same = urlPath(exactly(t.Value))
	case mesh.Regex:
		same = urlPath(stringMatch(t))
	default:
		same = anyOf([]*rbacv3.Principal{urlPath(exactly(t.Value)), urlPath(prefixed(t.Value + "/"))})
	}
	plain := urlPath(stringMatch(mesh.TextMatch{Type: mesh.Regex, Value: t.PlainPath().String()}))
	if deny {
		return anyOf([]*rbacv3.Principal{same, {Identifier: &rbacv3.Principal_NotId{NotId: plain}}})
	}
	return allOf([]*rbacv3.Principal{same, plain})
}

// urlPath matches the path without the query. A request without a path never matches.
func urlPath(m *matcherv3.StringMatcher) *rbacv3.Principal {
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_UrlPath{
		UrlPath: &matcherv3.PathMatcher{Rule: &matcherv3.PathMatcher_Path{Path: m}},
	}}
}

func prefixed(text string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: text}}
}

func anyOf(ids []*rbacv3.Principal) *rbacv3.Principal {
	if len(ids) == 1 {
		return ids[0]
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_OrIds{OrIds: &rbacv3.Principal_Set{Ids: ids}}}
}

// allOf matches if all of ids match, and everybody if there are none.
func allOf(ids []*rbacv3.Principal) *rbacv3.Principal {
	switch len(ids) {
	case 0:
		return &rbacv3.Principal{Identifier: &rbacv3.Principal_Any{Any: true}}
	case 1:
		return ids[0]
	}
	return &rbacv3.Principal{Identifier: &rbacv3.Principal_AndIds{AndIds: &rbacv3.Principal_Set{Ids: ids}}}
}
