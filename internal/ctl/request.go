package ctl

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// requestView says where a request goes.
type requestView struct {
	Request string `json:"request"`
	// Service or Gateway that gets it.
	Service string `json:"service,omitempty"`
	Gateway string `json:"gateway,omitempty"`
	Port    uint16 `json:"port"`
	// Listener of the Gateway, its certificates and the virtual host that take the request.
	Listener     string   `json:"listener,omitempty"`
	Certificates []string `json:"certificates,omitempty"`
	// CertificateNote says that none of the certificates is good for the server name.
	CertificateNote string `json:"certificateNote,omitempty"`
	Host            string `json:"host,omitempty"`
	// Clients is the namespace of the clients whose rules apply, or empty for all other clients.
	Clients string `json:"clients,omitempty"`
	// Tried are the rules in their order, up to the one that the request matches.
	Tried []triedView `json:"tried,omitempty"`
	// Met is that rule; nil if no rule matches and Status is the answer.
	Met    *ruleView `json:"met,omitempty"`
	Status uint32    `json:"status,omitempty"`
	// Closed says that a Gateway does not take the connection.
	Closed bool `json:"closed,omitempty"`
	// Note says why there are no rules.
	Note string `json:"note,omitempty"`

	namespace string
	group     groupView
	listener  *listenerView
	// by says what has decided for the listener.
	by string
}

type triedView struct {
	Order int    `json:"order"`
	Route string `json:"route,omitempty"`
	Rule  int    `json:"rule"`
	// Failed are the false conditions; none if the rule matches.
	Failed []string `json:"failed,omitempty"`
}

// request is a request of the command line.
type request struct {
	mesh.Request
	text string
	// scheme and port are those of a URL, for a Gateway; empty for a Service. serverName is what the client asks for in TLS.
	scheme, serverName string
	port               uint16
}

// parseRequest reads "METHOD /path?query", "/path" or, for a gRPC call, "package.Service/Method". In place of the path it takes a URL.
func parseRequest(text string, headers []string) (request, error) {
	r := request{Request: mesh.Request{Method: http.MethodGet, Headers: map[string][]string{}}}
	fields := strings.Fields(text)
	bad := func(problem string) (request, error) {
		return r, fmt.Errorf(`--request: %q: %s; want "METHOD /path", "/path" or, for gRPC, "package.Service/Method"; for a Gateway "METHOD https://host/path"`, text, problem)
	}
	switch len(fields) {
	case 1:
		r.Path = fields[0]
	case 2:
		r.Method, r.Path = fields[0], fields[1]
	default:
		return bad("not one or two words")
	}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return r, fmt.Errorf(`-H: %q: want "name: value"`, h)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		r.Headers[name] = append(r.Headers[name], strings.TrimSpace(value))
	}
	absolute := strings.Contains(r.Path, "://") && !strings.HasPrefix(r.Path, "/")
	switch {
	case absolute:
		u, err := url.Parse(r.Path)
		if err == nil {
			err = r.absolute(u)
		}
		if err != nil {
			return bad(err.Error())
		}
	case len(fields) == 1 && !strings.HasPrefix(r.Path, "/") && strings.Count(r.Path, "/") == 1:
		r.Method, r.Path = http.MethodPost, "/"+r.Path
	case !strings.HasPrefix(r.Path, "/") && (r.Method != http.MethodOptions || r.Path != "*"):
		return bad("no path")
	}
	if r.Method != strings.ToUpper(r.Method) {
		return bad("methods are in upper case")
	}
	r.text = r.Method + " " + r.Path
	if absolute {
		r.text = r.Method + " " + fields[len(fields)-1]
	}
	return r, nil
}

// landing simulates a request to each HTTP port of a view.
func (v serviceView) landing(r mesh.Request) ([]requestView, error) {
	var out []requestView
	for _, port := range v.Ports {
		base := requestView{Request: r.Method + " " + r.Path, Service: v.Namespace + "/" + v.Name, Port: port.Port, namespace: v.Namespace}
		if len(port.Groups) == 0 {
			base.Note = protocolTexts[port.Protocol]
			out = append(out, base)
		}
		for _, g := range port.Groups {
			view := base
			view.Clients, view.group = g.Clients, g
			if g.Connections {
				view.Note = "this port balances connections, not requests; run the command without --request to see its rules"
			} else {
				view.try(r)
			}
			out = append(out, view)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("--request: Service %s/%s: %s", v.Namespace, v.Name, v.Note)
	}
	return out, nil
}

func (v *requestView) try(r mesh.Request) {
	met := mesh.Route(v.group.rules, r)
	for i := range v.group.rules {
		rule := &v.group.rules[i]
		tried := triedView{Order: i + 1, Route: v.group.Rules[i].Route, Rule: rule.Origin.Rule}
		if rule == met {
			v.Tried, v.Met = append(v.Tried, tried), &v.group.Rules[i]
			return
		}
		for _, c := range conditionsOf(rule.Match) {
			if !c.Matches(r) {
				tried.Failed = append(tried.Failed, c.text)
			}
		}
		v.Tried = append(v.Tried, tried)
	}
	v.Status = http.StatusNotFound
}
