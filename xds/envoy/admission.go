package envoy

import (
	"maps"
	"slices"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// admissionOf returns who may have connections to the pod, for the agent, which ends the others (internal/agent/ends). Envoy
// judges a connection only when it begins, and ends one in plain text only when there is traffic on it.
func admissionOf(in mesh.Inbound, cfg *config.Mesh) sds.Admission {
	out := sds.Admission{DrainTime: cfg.MTLS.DrainTime.Duration.String(), Ports: map[uint16]sds.PortAdmission{}}
	ports := slices.AppendSeq(in.PolicyPorts(), maps.Keys(in.Ports))
	for _, port := range append(ports, 0) {
		out.Ports[port] = portAdmission(in.ModeAt(port), in.PoliciesAt(port), cfg.MTLS.TrustDomain)
	}
	return out
}

// portAdmission returns who may have a connection to a port, whatever is asked on it. A Deny that looks at requests
// refuses no connection, and an Allow that looks at requests admits its callers' connections.
func portAdmission(mode config.MTLSMode, policies []mesh.Policy, trustDomain string) sds.PortAdmission {
	out := sds.PortAdmission{Plain: mode != config.Strict}
	denied, allows, allowed := false, false, false // for every caller, with or without an identity
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

// callerIDs returns SPIFFE IDs. One that ends with a slash stands for all IDs of a namespace.
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
