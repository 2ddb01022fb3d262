package mesh

// Implicit is the rule of a Service port without routes: every request goes to the Service itself.
// https://gateway-api.sigs.k8s.io/geps/gep-1294/#route-presence
func Implicit(svc *Service, port uint16) Rule {
	return Rule{
		Match: Match{Path: TextMatch{Prefix, "/"}},
		Action: &Action{
			Backends: []Backend{{Target: svc.target(Port{Number: port}), Weight: 1, Valid: true, Session: svc.Traffic.Session}},
			Calls:    callPolicy(svc.Calls),
		},
	}
}
