package ctl

import (
	"fmt"
	"strconv"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// describeRule returns everything but timeouts and retries. refs are the rule's backends with a weight, as written.
func describeRule(r mesh.Rule, order int, refs []gatewayv1.BackendRef) ruleView {
	v := ruleView{Order: order, Rule: r.Origin.Rule, Name: r.Origin.Name, Match: r.Origin.Match, Conditions: conditionTexts(r.Match)}
	if r.Origin.Route.Name != "" {
		v.Route = r.Origin.Route.String()
	}
	a := r.Action
	source := fmt.Sprintf("spec.rules[%d].filters", r.Origin.Rule)
	add := func(name, value string) { v.Settings = append(v.Settings, settingView{name, value, source}) }
	switch {
	case a.Redirect != nil:
		v.Redirect = redirectText(*a.Redirect)
	case a.Fail != 0:
		v.Status, v.Reason = a.Fail, a.FailReason
	case a.Refuse:
		v.Closed, v.Reason = true, a.FailReason
	default:
		v.Backends = backendViews(a, r.Origin.Route.Namespace, refs)
	}
	for _, text := range headerTexts(a.RequestHeaders) {
		add("request headers", text)
	}
	for _, text := range headerTexts(a.ResponseHeaders) {
		add("response headers", text)
	}
	if a.Rewrite.Hostname != "" {
		add("host", "becomes "+a.Rewrite.Hostname)
	}
	if a.Rewrite.Path != nil {
		add("path", pathChangeText(*a.Rewrite.Path))
	}
	if a.CORS != nil {
		add("CORS", corsText(*a.CORS))
	}
	if a.Auth != nil {
		add("external auth", "by "+targetText(a.Auth.Target))
	}
	for _, m := range a.Mirrors {
		add("mirror", fmt.Sprintf("%s %% to %s", percentText(float64(m.PerMillion)/10_000), targetText(m.Target)))
	}
	return v
}

// backendViews are the backends as the rule has them (refs), of which mesh.Action has those with a weight above 0;
// without refs, those of the Action.
func backendViews(a *mesh.Action, namespace string, refs []gatewayv1.BackendRef) []backendView {
	var sum uint64
	for _, b := range a.Backends {
		sum += uint64(b.Weight)
	}
	var out []backendView
	none := func() { // backends without a share up to the next that has one
		for len(refs) > 0 && refs[0].Weight != nil && *refs[0].Weight == 0 {
			var view backendView
			view.Service, view.Port = refText(refs[0], namespace)
			out, refs = append(out, view), refs[1:]
		}
	}
	for _, b := range a.Backends {
		none()
		view := backendView{Weight: b.Weight, Percent: 100 * float64(b.Weight) / float64(sum)}
		if b.Valid {
			view.Service, view.Port = b.Service.String(), b.Port
		} else {
			view.Status, view.Closed = a.InvalidStatus, a.InvalidStatus == 0
			if len(refs) > 0 {
				view.Service, view.Port = refText(refs[0], namespace)
			}
		}
		if len(refs) > 0 {
			refs = refs[1:]
		}
		if b.RequestHeaders != nil {
			view.Filters = append(view.Filters, headerTexts(*b.RequestHeaders)...)
		}
		if b.ResponseHeaders != nil {
			view.Filters = append(view.Filters, headerTexts(*b.ResponseHeaders)...)
		}
		out = append(out, view)
	}
	none()
	return out
}

// refText names what cannot be resolved, so that it may be anything.
func refText(ref gatewayv1.BackendRef, namespace string) (string, uint16) {
	if ref.Namespace != nil {
		namespace = string(*ref.Namespace)
	}
	name := namespace + "/" + string(ref.Name)
	if ref.Kind != nil && *ref.Kind != "Service" {
		name = string(*ref.Kind) + " " + name
	}
	if ref.Port == nil {
		return name, 0
	}
	return name, uint16(*ref.Port)
}

// backendRefs are the backends of a rule, in its order.
func (w *world) backendRefs(o mesh.Origin) []gatewayv1.BackendRef {
	var out []gatewayv1.BackendRef
	switch r := w.byID[o.Route].(type) {
	case *gatewayv1.HTTPRoute:
		if o.Rule < len(r.Spec.Rules) {
			for _, b := range r.Spec.Rules[o.Rule].BackendRefs {
				out = append(out, b.BackendRef)
			}
		}
	case *gatewayv1.GRPCRoute:
		if o.Rule < len(r.Spec.Rules) {
			for _, b := range r.Spec.Rules[o.Rule].BackendRefs {
				out = append(out, b.BackendRef)
			}
		}
	case *gatewayv1.TLSRoute:
		if o.Rule < len(r.Spec.Rules) {
			return r.Spec.Rules[o.Rule].BackendRefs
		}
	case *gatewayv1.TCPRoute:
		if o.Rule < len(r.Spec.Rules) {
			return r.Spec.Rules[o.Rule].BackendRefs
		}
	case *gatewayv1.UDPRoute:
		if o.Rule < len(r.Spec.Rules) {
			return r.Spec.Rules[o.Rule].BackendRefs
		}
	}
	return out
}

func corsText(c mesh.CORS) string {
	if c.AnyOrigin {
		return "for every origin"
	}
	return "for " + plural(len(c.AllowOrigins), "origin")
}

func targetText(t mesh.Target) string { return fmt.Sprintf("%s:%d", t.Service, t.Port) }

// percentText has as few digits as the share needs, four at most.
func percentText(p float64) string {
	return strconv.FormatFloat(float64(int64(p*10_000+0.5))/10_000, 'f', -1, 64)
}

func headerTexts(h mesh.HeaderChange) []string {
	var out []string
	for _, name := range h.Remove {
		out = append(out, "remove "+name)
	}
	for _, s := range h.Set {
		out = append(out, fmt.Sprintf("set %s: %s", s.Name, s.Value))
	}
	for _, a := range h.Add {
		out = append(out, fmt.Sprintf("add %s: %s", a.Name, a.Value))
	}
	return out
}

func pathChangeText(p mesh.PathChange) string {
	if p.Full {
		return "becomes " + p.Value
	}
	return "matched prefix becomes " + p.Value
}

func redirectText(r mesh.Redirect) string {
	text := fmt.Sprint(r.Status)
	for _, part := range []struct{ name, value string }{{"scheme", r.Scheme}, {"host", r.Hostname}} {
		if part.value != "" {
			text += fmt.Sprintf(", %s %s", part.name, part.value)
		}
	}
	if r.Port != 0 {
		text += fmt.Sprintf(", port %d", r.Port)
	}
	if r.Path != nil {
		text += ", path " + pathChangeText(*r.Path)
	}
	return text
}

// condition is one part of a match, alone.
type condition struct {
	text string
	mesh.Match
}

// conditionsOf splits a match into parts that can be tried one by one.
func conditionsOf(m mesh.Match) []condition {
	anyPath := mesh.TextMatch{Type: mesh.Prefix, Value: "/"}
	var out []condition
	if m.Path != anyPath {
		out = append(out, condition{"path " + pathText(m), mesh.Match{Path: m.Path}})
	}
	if m.TLS != nil {
		out = append(out, condition{serverNameText(*m.TLS), mesh.Match{Path: anyPath, TLS: m.TLS}})
	}
	if m.Method != "" {
		out = append(out, condition{"method " + m.Method, mesh.Match{Path: anyPath, Method: m.Method}})
	}
	for _, h := range m.Headers {
		out = append(out, condition{"header " + fieldText(h), mesh.Match{Path: anyPath, Headers: []mesh.FieldMatch{h}}})
	}
	for _, q := range m.Query {
		out = append(out, condition{"query " + fieldText(q), mesh.Match{Path: anyPath, Query: []mesh.FieldMatch{q}}})
	}
	return out
}

func conditionTexts(m mesh.Match) []string {
	var out []string
	for _, c := range conditionsOf(m) {
		out = append(out, c.text)
	}
	return out
}

// serverNameText says which connections a match of a TLSRoute takes.
func serverNameText(m mesh.TLSMatch) string {
	if m.ServerName == "" {
		return "TLS, any server name"
	}
	return "TLS, server name " + m.ServerName
}

// pathText writes "= /a", "prefix /a" or "~ expression".
func pathText(m mesh.Match) string {
	switch m.Path.Type {
	case mesh.Exact:
		return "= " + m.Path.Value
	case mesh.Prefix:
		return "prefix " + m.Path.Value
	default:
		return "~ " + m.Path.Value
	}
}

func fieldText(f mesh.FieldMatch) string {
	if f.Type == mesh.Regex {
		return fmt.Sprintf("%s ~ %s", f.Name, f.Value)
	}
	return fmt.Sprintf("%s = %s", f.Name, f.Value)
}
