package mesh

import (
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Declared is what a Service declares about the protocols of its pods.
type Declared struct {
	namespace string
	selector  labels.Selector
	ports     []declaredPort
}

type declaredPort struct {
	target   intstr.IntOrString
	protocol Protocol
}

// BuildDeclared reads the declarations of a Service, which may be headless. A Service without a selector declares nothing
// about any pod. A port with a protocol to detect declares nothing.
func BuildDeclared(svc *corev1.Service, opt Options) Declared {
	d := Declared{namespace: svc.Namespace, selector: labels.Nothing()}
	if len(svc.Spec.Selector) > 0 && svc.Spec.Type != corev1.ServiceTypeExternalName {
		d.selector = labels.SelectorFromSet(svc.Spec.Selector)
	}
	for i, p := range svc.Spec.Ports {
		if p.Protocol != corev1.ProtocolTCP && p.Protocol != "" {
			continue
		}
		protocol, _ := protocolOf(svc, i, opt.OpaquePorts)
		if protocol == Detect {
			continue
		}
		target := p.TargetPort
		if target == (intstr.IntOrString{}) {
			target = intstr.FromInt32(p.Port)
		}
		d.ports = append(d.ports, declaredPort{target, protocol})
	}
	return d
}

// Holds reports whether the Service selects a pod.
func (d Declared) Holds(pod *Pod) bool {
	return d.namespace == pod.Namespace && d.selector != nil && d.selector.Matches(labels.Set(pod.Labels))
}

// HTTPPorts returns the pod's ports that are declared HTTP, ascending: by the Services that select the pod or, if no
// Service declares a port, by the port's name in the pod. A port that one of the Services declares otherwise is left out,
// because it may carry something else.
func HTTPPorts(pod *Pod, services iter.Seq[Declared]) []uint16 {
	said := map[uint16]Protocol{}
	for d := range services {
		if !d.Holds(pod) {
			continue
		}
		for _, p := range d.ports {
			port := uint16(p.target.IntVal)
			if p.target.Type == intstr.String {
				if port = pod.Ports[p.target.StrVal]; port == 0 {
					continue
				}
			}
			if said[port] != TCP {
				said[port] = p.protocol
			}
		}
	}
	for name, port := range pod.Ports {
		if protocol, ok := fromName(name); ok && said[port] == "" {
			said[port] = protocol
		}
	}
	var out []uint16
	for port, protocol := range said {
		if protocol == HTTP {
			out = append(out, port)
		}
	}
	slices.Sort(out)
	return out
}

// DeclareHTTP treats a declared port as HTTP if an enforced policy refuses some callers there, so that they get an answer.
// At the other ports Envoy need not read HTTP.
func (i *Inbound) DeclareHTTP(ports []uint16) {
	i.HTTP = nil
	for _, port := range ports {
		if i.RefusesCallers(port) {
			i.HTTP = append(i.HTTP, port)
		}
	}
}

// RefusesCallers reports whether the enforced policies at a port may refuse a caller. Port 0 stands for all ports that are
// not among PolicyPorts.
func (i Inbound) RefusesCallers(port uint16) bool {
	var judged, allowed bool
	for _, p := range i.PoliciesAt(port) {
		switch {
		case p.DryRun:
		case p.Deny:
			return true // PoliciesAt returns a Deny only if it has rules
		default:
			judged = true
			allowed = allowed || slices.ContainsFunc(p.Rules, func(r CallRule) bool { return len(r.From)+len(r.HTTP) == 0 })
		}
	}
	return judged && !allowed
}

// JudgesRequests reports whether policies at a port look at requests, and not only at callers.
func (i Inbound) JudgesRequests(port uint16) bool {
	return slices.ContainsFunc(i.PoliciesAt(port), func(p Policy) bool {
		return slices.ContainsFunc(p.Rules, func(r CallRule) bool { return len(r.HTTP) > 0 })
	})
}

// namedPorts returns the TCP ports of an application's containers by name. If two have the same name the first counts, as
// for Services.
func namedPorts(pod *corev1.Pod) map[string]uint16 {
	out := map[string]uint16{}
	for _, c := range sidecar.Servers(&pod.Spec) {
		for _, p := range c.Ports {
			if p.Name == "" || (p.Protocol != corev1.ProtocolTCP && p.Protocol != "") {
				continue
			}
			if _, twice := out[p.Name]; !twice {
				out[p.Name] = uint16(p.ContainerPort)
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}
