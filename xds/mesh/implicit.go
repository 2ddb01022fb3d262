package mesh

// Implicit is the rule of a Service port without routes: every request goes to the Service itself.
// https://gateway-api.sigs.k8s.io/geps/gep-1294/#route-presence
func Implicit(svc *Service, port uint16) Rule {
	target := Target{Service: svc.Key, Port: port, ClientIPAffinity: svc.ClientIPAffinity}
	for _, ip := range svc.ClusterIPs {
		target.Families = append(target.Families, FamilyOf(ip))
	}
	return Rule{
		Match:  Match{Path: TextMatch{Prefix, "/"}},
		Action: &Action{Backends: []Backend{{Target: target, Weight: 1, Valid: true}}, Calls: callPolicy(svc.Calls)},
	}
}
