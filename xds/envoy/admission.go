package envoy

import (
	"maps"
	"slices"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// admissionOf tells the agent which connections are not to live any more (internal/agent/ends). Envoy judges a connection when
// it begins, and ends one in plain text when something is said on it.
func admissionOf(in mesh.Inbound, cfg *config.Mesh) sds.Admission {
	out := sds.Admission{DrainTime: cfg.MTLS.DrainTime.Duration.String(), Ports: map[uint16]sds.PortAdmission{}}
	ports := slices.AppendSeq(in.PolicyPorts(), maps.Keys(in.Ports))
	for _, port := range append(ports, 0) {
		out.Ports[port] = portAdmission(in.ModeAt(port), in.PoliciesAt(port), cfg.MTLS.TrustDomain)
	}
	return out
}

// portAdmission takes of the policies what holds whatever is asked: a Deny that looks at requests refuses nobody as such, and an
// Allow that does lets its callers have a connection.
func portAdmission(mode config.MTLSMode, policies []mesh.Policy, trustDomain string) sds.PortAdmission {
	out := sds.PortAdmission{Plain: mode != config.Strict}
	denied, allows, allowed := false, false, false // everybody, with an identity or without
	for _, p := range policies {
		if p.DryRun {
			continue
		}
		allows = allows || !p.Deny
		for _, r := range p.Rules {
			switch {
			case p.Deny && len(r.HTTP) > 0:
			case len(r.From) == 0 && p.Deny:
				denied = true
			case len(r.From) == 0:
				allowed = true
			case p.Deny:
				out.Deny = append(out.Deny, callerIDs(r.From, trustDomain)...)
			default:
				out.Allow = append(out.Allow, callerIDs(r.From, trustDomain)...)
			}
		}
	}
	switch {
	case denied:
		return sds.PortAdmission{Allow: []string{}}
	case !allows || allowed:
		out.Allow = nil
	default:
		out.Plain, out.Allow = false, distinct(append([]string{}, out.Allow...))
	}
	out.Deny = distinct(out.Deny)
	return out
}

// callerIDs end with a slash for all of a namespace.
func callerIDs(callers []mesh.Caller, trustDomain string) []string {
	var out []string
	for _, c := range callers {
		out = append(out, mesh.SPIFFEID(trustDomain, c.Namespace, c.ServiceAccount))
	}
	return out
}

func distinct(ids []string) []string {
	slices.Sort(ids)
	return slices.Compact(ids)
}
