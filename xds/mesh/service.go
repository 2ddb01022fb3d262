package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Options are the settings of the mesh configuration that the model depends on.
type Options struct {
	// OpaquePorts are Service ports of server-first protocols.
	OpaquePorts []int32
	// ServiceCIDRs are used if the cluster has no ServiceCIDR objects.
	ServiceCIDRs []string
}

// BuildService returns the model of a Service, or nil for a Service without a cluster IP or a TCP port. Problems are in the
// order of the Service's fields.
func BuildService(svc *corev1.Service, opt Options) (*Service, []Problem) {
	out, problems := readService(svc, opt)
	if !out.Captured() {
		return nil, append(problems, withoutEffect(svc, problems)...)
	}
	return out, problems
}

// BuildUncaptured returns the model of a Service for which BuildService returns none: a headless one, or one with UDP ports alone.
// Only gateways send to it. It returns nil for an ExternalName Service, which they do not follow, and for one without ports.
// https://gateway-api.sigs.k8s.io/reference/spec/#backendref
func BuildUncaptured(svc *corev1.Service, opt Options) *Service {
	out, _ := readService(svc, opt)
	if out.Captured() || len(out.Families()) == 0 || len(out.Ports)+len(out.UDP) == 0 {
		return nil
	}
	return out
}

func readService(svc *corev1.Service, opt Options) (*Service, []Problem) {
	out := &Service{
		Key:              Key{svc.Namespace, svc.Name},
		ClusterIPs:       clusterIPs(svc),
		Headless:         headless(svc),
		LocalOnly:        svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal,
		Near:             prefersNear(svc),
		ClientIPAffinity: svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP,
	}
	var problems []Problem
	var callErrs, policyErrs []config.KeyError
	out.Calls, _, callErrs = config.CallsOf(config.OnService, svc.Annotations, nil)
	out.Policy, policyErrs = config.ServicePolicyOf(svc.Annotations)
	for _, e := range append(callErrs, policyErrs...) {
		problems = append(problems, badAnnotation(ID{KindService, out.Key}, string(svc.UID), e))
	}
	for i, p := range svc.Spec.Ports {
		if p.Protocol == corev1.ProtocolUDP {
			out.UDP = append(out.UDP, Port{Number: uint16(p.Port), Name: p.Name})
		}
		if p.Protocol != corev1.ProtocolTCP && p.Protocol != "" {
			continue
		}
		protocol, problem := protocolOf(svc, i, opt.OpaquePorts)
		if problem != nil {
			problems = append(problems, *problem)
		}
		out.Ports = append(out.Ports, Port{Number: uint16(p.Port), Name: p.Name, Protocol: protocol, HTTP2: declaresHTTP2(p)})
	}
	for _, ports := range [][]Port{out.Ports, out.UDP} {
		slices.SortFunc(ports, func(a, b Port) int { return cmp.Compare(a.Number, b.Number) })
	}
	return out, problems
}

// withoutEffect returns problems for the annotations on a Service whose calls bypass Mizzen. It ignores a Service that
// still waits for its address.
func withoutEffect(svc *corev1.Service, known []Problem) []Problem {
	if svc.Spec.Type != corev1.ServiceTypeExternalName && len(svc.Spec.ClusterIPs) == 0 {
		return nil
	}
	var out []Problem
	for _, key := range config.KeysIn(svc.Annotations) {
		field := fmt.Sprintf("metadata.annotations[%s]", key)
		if slices.ContainsFunc(known, func(p Problem) bool { return p.Field == field }) {
			continue
		}
		out = append(out, Problem{
			Object: ID{KindService, Key{svc.Namespace, svc.Name}}, UID: string(svc.UID), Reason: "AnnotationWithoutEffect",
			Field: field, Value: svc.Annotations[key], Allowed: "a Service with a cluster IP and a TCP port",
			Effect: "it has no effect, because calls go to the addresses from DNS",
		})
	}
	return out
}

// headless returns the IP families of a headless Service.
func headless(svc *corev1.Service) []Family {
	if svc.Spec.Type == corev1.ServiceTypeExternalName || svc.Spec.ClusterIP != corev1.ClusterIPNone {
		return nil
	}
	var out []Family
	for _, f := range svc.Spec.IPFamilies {
		switch f {
		case corev1.IPv4Protocol:
			out = append(out, IPv4)
		case corev1.IPv6Protocol:
			out = append(out, IPv6)
		}
	}
	return out
}

// clusterIPs returns the Service's addresses. Headless and ExternalName Services have none, and so has a new Service.
func clusterIPs(svc *corev1.Service) []netip.Addr {
	if svc.Spec.Type == corev1.ServiceTypeExternalName {
		return nil
	}
	var ips []netip.Addr
	for _, s := range svc.Spec.ClusterIPs {
		if ip, err := netip.ParseAddr(s); err == nil { // "None" is not an address
			ips = append(ips, ip)
		}
	}
	return ips
}

// ServiceCIDRs returns the ranges of cluster IPs, sorted, each once. They come from the cluster's ServiceCIDR objects, or
// else from the mesh configuration, or else they are each Service's own address.
func ServiceCIDRs(cidrs []*networkingv1.ServiceCIDR, services []*Service, opt Options) []netip.Prefix {
	var texts []string
	for _, c := range cidrs {
		texts = append(texts, c.Spec.CIDRs...)
	}
	if len(texts) == 0 {
		texts = opt.ServiceCIDRs
	}
	var out []netip.Prefix
	for _, t := range texts {
		if p, err := netip.ParsePrefix(t); err == nil { // validated by the API server and by config
			out = append(out, p.Masked())
		}
	}
	if len(out) == 0 {
		for _, svc := range services {
			for _, ip := range svc.ClusterIPs {
				out = append(out, netip.PrefixFrom(ip, ip.BitLen()))
			}
		}
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}
