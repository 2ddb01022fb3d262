package envoy

import (
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
)

// Namespaces in the dynamic metadata where the filters leave their decisions.
const (
	httpRBAC    = "envoy.filters.http.rbac"
	networkRBAC = "envoy.filters.network.rbac"
)

// kind returns the prefix of a stage's statistics. It is also the prefix of the stage's keys in the metadata.
func (s stage) kind() string {
	if s.deny {
		return "deny."
	}
	return "allow."
}

func (s stage) httpFilter() *hcmv3.HttpFilter {
	f := &httprbacv3.RBAC{}
	if s.shadow {
		f.ShadowRules, f.ShadowRulesStatPrefix = s.rules, s.kind()
	} else {
		f.Rules, f.RulesStatPrefix = s.rules, s.kind()
	}
	return httpFilter(httpRBAC, f)
}

// networkFilter returns the stage's filter for connections. The filter of an enforced stage evaluates its rules twice,
// because Envoy leaves only the decisions of shadow rules in the metadata.
func (s stage) networkFilter() *listenerv3.Filter {
	f := &rbacv3.RBAC{StatPrefix: "inbound_tcp", ShadowRules: s.rules, ShadowRulesStatPrefix: s.kind()}
	if !s.shadow {
		f.Rules, f.StatPrefix, f.ShadowRulesStatPrefix = s.rules, "inbound_tcp."+s.kind()[:len(s.kind())-1], s.enforcedKey()
	}
	return networkFilter(networkRBAC, f)
}

func (s stage) enforcedKey() string { return s.kind() + "enforced_" }

// metadata returns the keys of the decision and of the policy that decided.
func (s stage) metadata(namespace string) (result, policy string) {
	prefix := s.kind()
	switch {
	case s.shadow:
		prefix += "shadow_"
	case namespace == httpRBAC:
		prefix = s.enforcedKey()
	default:
		prefix = s.enforcedKey() + "shadow_"
	}
	return prefix + "engine_result", prefix + "effective_policy_id"
}
