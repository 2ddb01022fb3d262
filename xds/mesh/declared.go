package mesh

import (
	"iter"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Declared is what a Service says of the protocols that its pods speak.
type Declared struct {
	namespace string
	selector  labels.Selector
	ports     []declaredPort
}

type declaredPort struct {
	target   intstr.IntOrString
	protocol Protocol
}

// BuildDeclared reads it, also of a headless Service. One without a selector says nothing of any pod, nor does a port
// whose protocol is to be detected.
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

// HTTPPorts are a pod's ports that are declared to be HTTP, by the Services that select it or, where none says anything,
// by their names in the pod. Where one Service says otherwise the port is none: what it carries may be something else.
// Ascending.
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

// DeclareHTTP has those of these ports taken for HTTP at which a policy that is enforced refuses somebody by who he is, so
// that he gets an answer. Where nobody is refused, nobody has to look.
func (i *Inbound) DeclareHTTP(ports []uint16) {
	i.HTTP = nil
	for _, port := range ports {
		if i.RefusesCallers(port) {
			i.HTTP = append(i.HTTP, port)
		}
	}
}

// RefusesCallers reports whether the policies at a port that are enforced let not everybody in; port 0 stands for all that
// are not among PolicyPorts.
func (i Inbound) RefusesCallers(port uint16) bool {
	var judged, allowed bool
	for _, p := range i.PoliciesAt(port) {
		switch {
		case p.DryRun:
		case p.Deny:
			return true // it has rules
		default:
			judged = true
			allowed = allowed || slices.ContainsFunc(p.Rules, func(r CallRule) bool { return len(r.From)+len(r.HTTP) == 0 })
		}
	}
	return judged && !allowed
}

// JudgesRequests reports whether at a port not the caller alone is looked at, but what is asked for, too.
func (i Inbound) JudgesRequests(port uint16) bool {
	return slices.ContainsFunc(i.PoliciesAt(port), func(p Policy) bool {
		return slices.ContainsFunc(p.Rules, func(r CallRule) bool { return len(r.HTTP) > 0 })
	})
}

// namedPorts are the TCP ports of an application's containers by name. Of two with one name the first counts, as it does for
// Services.
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
