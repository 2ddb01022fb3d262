package mesh

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// BackendTLSTargets returns the Services that a BackendTLSPolicy names, each once, in the order of the object.
func BackendTLSTargets(o *gatewayv1.BackendTLSPolicy) []Key {
	var out []Key
	for _, ref := range o.Spec.TargetRefs {
		key := Key{o.Namespace, string(ref.Name)}
		if targetsService(ref) && !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out
}

func targetsService(ref gatewayv1.LocalPolicyTargetReferenceWithSectionName) bool {
	return ref.Group == "" && ref.Kind == gatewayv1.Kind(KindService)
}

// BackendTLSRefs returns the ConfigMaps that a BackendTLSPolicy names.
func BackendTLSRefs(o *gatewayv1.BackendTLSPolicy) []ID {
	var out []ID
	for _, ref := range o.Spec.Validation.CACertificateRefs {
		if ref.Group == "" && ref.Kind == gatewayv1.Kind(KindConfigMap) {
			out = append(out, ID{KindConfigMap, Key{o.Namespace, string(ref.Name)}})
		}
	}
	return uniqueIDs(out)
}

// BuildBackendTLS returns how gateways call the ports of a Service that have a BackendTLSPolicy, and the statuses of all policies that
// target the Service: for each of them one for each Gateway that sends to it. svc is nil if gateways cannot send to it.
//
// A policy for a port, by its name, goes before one for the whole Service. Of several for the same the oldest counts, and among those
// of the same age the first by name.
// https://gateway-api.sigs.k8s.io/reference/spec/#backendtlspolicyspec
func BuildBackendTLS(target Key, svc *Service, policies []*gatewayv1.BackendTLSPolicy, configMaps map[Key]*corev1.ConfigMap, gateways []Key) (map[uint16]BackendTLS, []Status) {
	slices.SortFunc(policies, func(a, b *gatewayv1.BackendTLSPolicy) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	ports := map[uint16]BackendTLS{}
	owners := map[gatewayv1.SectionName]string{} // "" for the whole Service
	var whole *BackendTLS
	var statuses []Status
	for _, o := range policies {
		read, accepted, refs := readBackendTLS(o, configMaps)
		holds := false
		for i, ref := range o.Spec.TargetRefs {
			if !targetsService(ref) || string(ref.Name) != target.Name {
				continue
			}
			section := deref(ref.SectionName)
			port, found := portNamed(svc, string(section))
			owner, taken := owners[section]
			switch {
			case taken && accepted.True && !holds:
				accepted = condition(gatewayv1.PolicyConditionAccepted, false, gatewayv1.PolicyReasonConflicted, fmt.Sprintf("the older BackendTLSPolicy %s applies to Service %s", owner, target))
			case svc == nil || section != "" && !found:
				accepted = condition(gatewayv1.PolicyConditionAccepted, false, gatewayv1.PolicyReasonTargetNotFound, fmt.Sprintf("spec.targetRefs[%d]: Service %s does not exist, or has no such port", i, target))
			case taken:
			case section == "":
				whole, owners[section], holds = &read, o.Name, true
			default:
				ports[port], owners[section], holds = read, o.Name, true
			}
		}
		for _, gateway := range gateways {
			statuses = append(statuses, Status{
				Object: ID{KindBackendTLSPolicy, Key{o.Namespace, o.Name}}, Generation: o.Generation, Ref: gatewayRef(gateway), Conditions: []Condition{accepted, refs},
			})
		}
	}
	if svc != nil && whole != nil {
		for _, p := range svc.Ports {
			if _, own := ports[p.Number]; !own {
				ports[p.Number] = *whole
			}
		}
	}
	return ports, statuses
}

func portNamed(svc *Service, name string) (uint16, bool) {
	if svc != nil {
		for _, p := range svc.Ports {
			if p.Name == name {
				return p.Number, true
			}
		}
	}
	return 0, false
}

func gatewayRef(key Key) gatewayv1.ParentReference {
	return gatewayv1.ParentReference{
		Group: new(gatewayv1.Group(gatewayv1.GroupName)), Kind: new(gatewayv1.Kind(KindGateway)),
		Namespace: new(gatewayv1.Namespace(key.Namespace)), Name: gatewayv1.ObjectName(key.Name),
	}
}

// readBackendTLS reads a policy, and returns its conditions: "Connections using an invalid CACertificateRef MUST fail".
func readBackendTLS(o *gatewayv1.BackendTLSPolicy, configMaps map[Key]*corev1.ConfigMap) (out BackendTLS, accepted, refs Condition) {
	v := o.Spec.Validation
	out.Hostname = string(v.Hostname)
	accepted = condition(gatewayv1.PolicyConditionAccepted, true, gatewayv1.PolicyReasonAccepted, "the policy applies")
	refs = condition(gatewayv1.BackendTLSPolicyConditionResolvedRefs, true, gatewayv1.BackendTLSPolicyReasonResolvedRefs, "all references are resolved")
	var f faults
	if !validServerName(out.Hostname) || isWildcard(out.Hostname) {
		f.add("spec.validation.hostname", out.Hostname, "a name such as db.example.com")
	}
	for i, san := range v.SubjectAltNames {
		switch san.Type {
		case gatewayv1.HostnameSubjectAltNameType:
			out.DNSNames = append(out.DNSNames, string(san.Hostname))
		case gatewayv1.URISubjectAltNameType:
			out.URIs = append(out.URIs, string(san.URI))
		default:
			f.add(fmt.Sprintf("spec.validation.subjectAltNames[%d].type", i), san.Type, "Hostname or URI")
		}
	}
	if known := deref(v.WellKnownCACertificates); len(v.CACertificateRefs) == 0 && known != gatewayv1.WellKnownCACertificatesSystem {
		f.add("spec.validation.wellKnownCACertificates", known, "System, or caCertificateRefs")
	}
	if len(f) > 0 {
		out.Invalid = true
		return out, condition(gatewayv1.PolicyConditionAccepted, false, gatewayv1.PolicyReasonInvalid, f.String()), refs
	}
	fail := func(reason gatewayv1.PolicyConditionReason, i int, format string, args ...any) {
		text := unresolvedRef{field: fmt.Sprintf("spec.validation.caCertificateRefs[%d]", i), problem: fmt.Sprintf(format, args...)}.String()
		if refs.True {
			refs = condition(gatewayv1.BackendTLSPolicyConditionResolvedRefs, false, reason, text)
		} else {
			refs.Message += "; " + text
		}
	}
	for i, ref := range v.CACertificateRefs {
		if ref.Group != "" || ref.Kind != gatewayv1.Kind(KindConfigMap) {
			fail(gatewayv1.BackendTLSPolicyReasonInvalidKind, i, "%s %q: want a ConfigMap of the core group", ref.Kind, ref.Group)
			continue
		}
		id := ID{KindConfigMap, Key{o.Namespace, string(ref.Name)}}
		object := configMaps[id.Key]
		if object == nil {
			fail(gatewayv1.BackendTLSPolicyReasonInvalidCACertificateRef, i, "%s does not exist", id)
			continue
		}
		cas, err := readCAs(object)
		if err != nil {
			fail(gatewayv1.BackendTLSPolicyReasonInvalidCACertificateRef, i, "%s: %s", id, err)
			continue
		}
		if len(out.CAs) > 0 {
			out.CAs = append(out.CAs, '\n')
		}
		out.CAs = append(out.CAs, cas...)
	}
	if len(v.CACertificateRefs) > 0 && len(out.CAs) == 0 {
		out.Invalid = true
		accepted = condition(gatewayv1.PolicyConditionAccepted, false, gatewayv1.BackendTLSPolicyReasonNoValidCACertificate, "no CA certificate can be used, so every connection fails: "+refs.Message)
	}
	return out, accepted, refs
}
