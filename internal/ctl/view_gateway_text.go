package ctl

import (
	"fmt"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// renderGateway writes a view for people.
func renderGateway(v gatewayView, p paint) string {
	var b strings.Builder
	b.WriteString(p.in(bold, fmt.Sprintf("Gateway %s/%s", v.Namespace, v.Name)) + "  class " + v.Class)
	for _, a := range v.Addresses {
		b.WriteString("  " + a)
	}
	b.WriteString("\n")
	if v.Note != "" {
		b.WriteString("  " + v.Note + "\n")
	}
	for _, l := range v.Listeners {
		b.WriteString("\n" + renderListener(v.Namespace, l, p))
	}
	if len(v.Problems) > 0 {
		b.WriteString("\n" + p.in(bold, "Not as written") + "\n" + renderProblems(v.Problems, p))
	}
	return b.String()
}

func renderListener(namespace string, l listenerView, p paint) string {
	text := p.in(bold, fmt.Sprintf("Port %d (%s)", l.Port, l.Name)) + "  " + listenerText(l)
	for _, c := range l.Certificates {
		text += "  Secret " + c
	}
	if l.ClientCertificates != "" {
		text += "  client certificates " + l.ClientCertificates
	}
	if l.NotServed != "" {
		return text + "  " + p.in(red, "not served: "+l.NotServed) + "\n"
	}
	text += "\n"
	for _, h := range l.Hosts {
		text += fmt.Sprintf("  host %s\n", h.Name) + indent(indent(renderGroup(namespace, h.groupView, p)))
	}
	if l.Connections != nil {
		text += indent(renderGroup(namespace, *l.Connections, p))
	}
	return text
}

// listenerText is the protocol of a listener, with its host name.
func listenerText(l listenerView) string {
	text := string(l.Protocol)
	if l.Passthrough {
		text += ", passed through"
	}
	switch l.Protocol {
	case gatewayv1.TCPProtocolType, gatewayv1.UDPProtocolType: // without host names
		return text
	}
	if l.Hostname == "" {
		return text + "  any host"
	}
	return text + "  " + l.Hostname
}

func (v gatewayView) hasRules() bool { return len(v.Listeners) > 0 }
