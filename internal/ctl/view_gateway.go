package ctl

import (
	"cmp"
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// gatewayView is the result of routes for one Gateway, and the format of -o json and yaml.
type gatewayView struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Class     string   `json:"class"`
	Addresses []string `json:"addresses,omitempty"`
	// Note says why the Gateway has no listeners here.
	Note string `json:"note,omitempty"`
	// Listeners of the Gateway, then of its ListenerSets.
	Listeners []listenerView `json:"listeners,omitempty"`
	// Problems are parts without effect, or with another effect than written.
	Problems []problemView `json:"problems,omitempty"`

	builtGateway
}

type listenerView struct {
	// Name is that of the listener, or "namespace/ListenerSet/listener".
	Name     string                 `json:"name"`
	Port     uint16                 `json:"port"`
	Protocol gatewayv1.ProtocolType `json:"protocol"`
	// Hostname is empty for all host names.
	Hostname string `json:"hostname,omitempty"`
	// Passthrough says that the backends end TLS.
	Passthrough bool `json:"passthrough,omitempty"`
	// Certificates are the Secrets with which the listener ends TLS, "namespace/name".
	Certificates []string `json:"certificates,omitempty"`
	// ClientCertificates is "required" or "optional" for a listener that asks clients for a certificate.
	ClientCertificates string `json:"clientCertificates,omitempty"`
	// NotServed is the reason for which the listener gets no traffic.
	NotServed string `json:"notServed,omitempty"`
	// Hosts of a listener for requests, the most specific first.
	Hosts []hostView `json:"hosts,omitempty"`
	// Connections are the rules of a listener for connections.
	Connections *groupView `json:"connections,omitempty"`
}

// hostView has the rules for the requests to some host names.
type hostView struct {
	// Name is a host name, "*." and a suffix, or "*" for all others of the listener.
	Name string `json:"name"`
	groupView
}

const anyHost = "*"

// gatewayViewOf describes a Gateway. If port is not 0, it shows only the listeners of that port.
func (w *world) gatewayViewOf(key mesh.Key, port uint16) gatewayView {
	id := mesh.ID{Kind: mesh.KindGateway, Key: key}
	gw := w.byID[id].(*gatewayv1.Gateway)
	v := gatewayView{Namespace: key.Namespace, Name: key.Name, Class: string(gw.Spec.GatewayClassName)}
	if !slices.Contains(w.Gateways(), key) {
		v.Note = fmt.Sprintf("not served by Mizzen: there is no GatewayClass %s of the controller %s", v.Class, config.ControllerName)
		return v
	}
	if v.builtGateway = w.gateway(key); v.err != nil {
		v.Note = fmt.Sprintf("not served, because Envoy would refuse it: %v", v.err)
		return v
	}
	statuses := w.result.Statuses[id]
	for _, a := range statuses[0].Gateway.Addresses {
		v.Addresses = append(v.Addresses, a.Value)
	}
	v.Problems = w.gatewayProblems(v.in, statuses)
	for _, s := range statuses {
		for _, l := range listenersOf(w.byID[s.Object]) {
			if port == 0 || port == uint16(l.Port) {
				v.Listeners = append(v.Listeners, w.listenerViewOf(v, s, l))
			}
		}
	}
	return v
}

// listenersOf returns the listeners of a Gateway or a ListenerSet; other objects have none.
func listenersOf(o any) []gatewayv1.Listener {
	var out []gatewayv1.Listener
	switch o := o.(type) {
	case *gatewayv1.Gateway:
		return o.Spec.Listeners
	case *gatewayv1.ListenerSet:
		for _, l := range o.Spec.Listeners {
			out = append(out, gatewayv1.Listener(l))
		}
	}
	return out
}

func (w *world) listenerViewOf(gw gatewayView, of mesh.Status, l gatewayv1.Listener) listenerView {
	v := listenerView{Name: mesh.ListenerName(of.Object, l.Name), Port: uint16(l.Port), Protocol: l.Protocol}
	if l.Hostname != nil {
		v.Hostname = string(*l.Hostname)
	}
	v.Passthrough = l.TLS != nil && l.TLS.Mode != nil && *l.TLS.Mode == gatewayv1.TLSModePassthrough
	socket, served := gw.served(v.Name)
	if served == nil {
		v.NotServed = whyNotServed(of, l.Name)
		return v
	}
	if t := served.TLS; t != nil {
		for _, ref := range l.TLS.CertificateRefs {
			key := mesh.Key{Namespace: of.Object.Namespace, Name: string(ref.Name)}
			if ref.Namespace != nil {
				key.Namespace = string(*ref.Namespace)
			}
			if slices.Contains(t.Certificates, gw.model.CertificateName(key)) {
				v.Certificates = append(v.Certificates, key.String())
			}
		}
		switch {
		case t.ClientCA != "" && t.AllowInvalidClient:
			v.ClientCertificates = "optional"
		case t.ClientCA != "":
			v.ClientCertificates = "required"
		}
	}
	if served.Protocol != gatewayv1.HTTPProtocolType && served.Protocol != gatewayv1.HTTPSProtocolType {
		v.Connections = new(w.gatewayGroup(gw, groupView{Connections: true, rules: served.Connections}))
		return v
	}
	for _, h := range socket.Hosts([]mesh.Listener{*served}) {
		if !h.Misdirected {
			v.Hosts = append(v.Hosts, w.hostViewOf(gw, *served, h.Name))
		}
	}
	slices.SortFunc(v.Hosts, func(a, b hostView) int { return mesh.CompareHosts(hostName(a.Name), hostName(b.Name)) })
	return v
}

func hostName(shown string) string {
	if shown == anyHost {
		return ""
	}
	return shown
}

// hostViewOf describes the rules for a virtual host: its own, even those that nothing can meet, and the others that are tried.
func (w *world) hostViewOf(gw gatewayView, l mesh.Listener, name string) hostView {
	own := slices.IndexFunc(l.Hosts, func(h mesh.VirtualHost) bool { return h.Name == name })
	rules := l.AllRulesFor(name)[:max(len(l.RulesFor(name)), len(l.Hosts[own].Rules))]
	return hostView{Name: cmp.Or(name, anyHost), groupView: w.gatewayGroup(gw, groupView{rules: rules})}
}

func (w *world) gatewayGroup(gw gatewayView, g groupView) groupView {
	return w.describeGroup(g, func(r mesh.Rule) []settingView {
		return callSettings(r, mesh.CallSources(r.Origin, nil, gw.in.Routes), "")
	})
}

// served returns a listener of the model with its socket, or nil.
func (v gatewayView) served(name string) (*mesh.Socket, *mesh.Listener) {
	for i, s := range v.model.Sockets {
		for j, l := range s.Listeners {
			if l.Name == name {
				return &v.model.Sockets[i], &s.Listeners[j]
			}
		}
	}
	return nil, nil
}

// whyNotServed returns the reason in the status of a listener.
func whyNotServed(of mesh.Status, name gatewayv1.SectionName) string {
	for _, l := range of.Gateway.Listeners {
		for _, c := range l.Conditions {
			if l.Name == name && c.Bad() && c.Type != programmed {
				return string(c.Reason)
			}
		}
	}
	return string(of.Conditions[0].Reason) // of a ListenerSet that is not accepted
}

// programmed is the condition that says whether traffic arrives. It follows from the others, and from pods and addresses.
const programmed = gatewayv1.RouteConditionType(gatewayv1.GatewayConditionProgrammed)

// gatewayProblems returns the problems from the conditions of a Gateway, its ListenerSets, their listeners and their routes.
func (w *world) gatewayProblems(in mesh.GatewayInputs, statuses []mesh.Status) []problemView {
	var out []problemView
	for _, s := range statuses {
		for _, c := range ownConditions(s) {
			if s.Gateway == nil {
				out = append(out, w.problemsOfCondition(s, c.Condition)...)
				continue
			}
			view := problemView{Object: s.Object.String(), Reason: string(c.Reason), Message: c.Message}
			if c.listener != "" {
				view.Parent = "listener " + string(c.listener)
			}
			out = append(out, view)
		}
	}
	for _, u := range mesh.GatewayUnresolvedRefs(in) {
		out = append(out, problemView{Object: u.Route.String(), Reason: string(u.Reason), Message: u.Field + ": " + u.Problem})
	}
	slices.SortStableFunc(out, func(a, b problemView) int { return cmp.Compare(a.Object, b.Object) })
	return slices.Compact(out)
}

// badCondition is a condition of an object, or of a listener of it.
type badCondition struct {
	mesh.Condition
	listener gatewayv1.SectionName
}

// follows are reasons of conditions that follow from those of listeners.
var follows = []gatewayv1.RouteConditionReason{
	gatewayv1.RouteConditionReason(gatewayv1.GatewayReasonListenersNotValid), gatewayv1.RouteConditionReason(gatewayv1.GatewayReasonListenersNotResolved),
}

// ownConditions returns the bad conditions of a status, with those of listeners, but not those that follow from others.
func ownConditions(s mesh.Status) []badCondition {
	var out []badCondition
	add := func(listener gatewayv1.SectionName, conditions []mesh.Condition) {
		for _, c := range conditions {
			if c.Bad() && c.Type != programmed && !slices.Contains(follows, c.Reason) {
				out = append(out, badCondition{c, listener})
			}
		}
	}
	add("", s.Conditions)
	if s.Gateway != nil {
		for _, l := range s.Gateway.Listeners {
			add(l.Name, l.Conditions)
		}
	}
	return out
}
