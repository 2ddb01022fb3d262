package ctl

import (
	"fmt"
	"maps"
	"slices"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// serviceView is the result of routes for one Service, and the format of -o json and yaml.
type serviceView struct {
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Addresses []string `json:"addresses,omitempty"`
	// Note says why the Service has no ports here.
	Note string `json:"note,omitempty"`
	// Annotations of the Service for calls to it, without those with a bad value.
	Annotations map[string]string `json:"annotations,omitempty"`
	// Policies that apply to the Service.
	Policies []settingView `json:"policies,omitempty"`
	Ports    []portView    `json:"ports,omitempty"`
	// Problems are parts without effect, or with another effect than written.
	Problems []problemView `json:"problems,omitempty"`
}

type portView struct {
	Port     uint16        `json:"port"`
	Name     string        `json:"name,omitempty"`
	Protocol mesh.Protocol `json:"protocol"`
	// Endpoints are known if a cluster was read.
	Endpoints *endpointsView `json:"endpoints,omitempty"`
	// Groups of rules, of which one applies to a client. None for opaque TCP without routes.
	Groups []groupView `json:"groups,omitempty"`
}

type groupView struct {
	// Clients is the namespace of the clients to which the rules apply, or empty for all other clients.
	Clients string `json:"clients,omitempty"`
	// Implicit says that no route is attached, so each request goes to the Service itself.
	Implicit bool `json:"implicit,omitempty"`
	// Connections says that the rules are for connections, not for requests.
	Connections bool `json:"connections,omitempty"`
	// Rules in the order in which they are tried.
	Rules []ruleView `json:"rules"`
	// NoMatch is the status for a request that no rule matches; 0 if one rule matches all.
	NoMatch uint32 `json:"noMatch,omitempty"`
	// NoMatchClosed says that a connection that no rule matches is closed.
	NoMatchClosed bool `json:"noMatchClosed,omitempty"`

	rules []mesh.Rule
}

type ruleView struct {
	Order int `json:"order"`
	// Route is "Kind namespace/name"; empty for the implicit rule.
	Route string `json:"route,omitempty"`
	// Rule and Match are indexes into spec.rules and its matches.
	Rule  int    `json:"rule"`
	Name  string `json:"name,omitempty"`
	Match int    `json:"match"`
	// Conditions must all be true; none means every request.
	Conditions []string `json:"conditions,omitempty"`
	// ShadowedBy is the number of an earlier rule that matches all requests of this one.
	ShadowedBy int           `json:"shadowedBy,omitempty"`
	Backends   []backendView `json:"backends,omitempty"`
	Redirect   string        `json:"redirect,omitempty"`
	// Status is the answer if no backend can take the request. Closed says that the connection is closed. Reason says
	// why.
	Status   uint32        `json:"status,omitempty"`
	Closed   bool          `json:"closed,omitempty"`
	Reason   string        `json:"reason,omitempty"`
	Settings []settingView `json:"settings,omitempty"`
}

type backendView struct {
	Service string  `json:"service"`
	Port    uint16  `json:"port,omitempty"`
	Weight  uint32  `json:"weight"`
	Percent float64 `json:"percent"`
	// Status is the answer to the share's requests if the reference cannot be resolved. Closed says that its
	// connections are closed.
	Status  uint32   `json:"status,omitempty"`
	Closed  bool     `json:"closed,omitempty"`
	Filters []string `json:"filters,omitempty"`
}

// settingView is a filter, a timeout or a retry setting, with its origin.
type settingView struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

type problemView struct {
	Object  string `json:"object"`
	Parent  string `json:"parent,omitempty"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// viewOf describes a Service. If from is set, it shows only the rules for clients of that namespace. If port is not 0,
// it shows only that port.
func (w *world) viewOf(key mesh.Key, from string, port uint16) serviceView {
	v := serviceView{Namespace: key.Namespace, Name: key.Name, Problems: w.problemsOf(key)}
	svc := w.captured(key)
	if err := w.result.Errors[key]; err != nil {
		v.Note = fmt.Sprintf("not part of the mesh, because Envoy would refuse it: %v", err)
		return v
	}
	if svc == nil {
		v.Note = "no cluster IP with a TCP port: calls go to the addresses from DNS, and routes have no effect"
		return v
	}
	for _, ip := range svc.ClusterIPs {
		if ip.String() != noAddress {
			v.Addresses = append(v.Addresses, ip.String())
		}
	}
	v.Annotations = w.annotations(key)
	v.Policies = w.policiesOf(key)
	rules := w.Rules(key)
	for _, p := range svc.Ports {
		if port != 0 && port != p.Number {
			continue
		}
		view := portView{Port: p.Number, Name: p.Name, Protocol: p.Protocol}
		for _, g := range groupsOf(rules[p.Number], svc, p, from) {
			view.Groups = append(view.Groups, w.describeGroup(g, func(r mesh.Rule) []settingView {
				return callSettings(r, mesh.CallSources(r.Origin, &key, w.Inputs(key)), "Service "+key.String())
			}))
		}
		v.Ports = append(v.Ports, view)
	}
	return v
}

// annotations returns the Service's annotations with our keys and valid values.
func (w *world) annotations(service mesh.Key) map[string]string {
	out := map[string]string{}
	for _, key := range config.Keys {
		value, ok := w.source[service].Annotations[key.Name]
		bad := slices.ContainsFunc(w.problems(service), func(p mesh.Problem) bool {
			return p.Field == fmt.Sprintf("metadata.annotations[%s]", key.Name)
		})
		if ok && !bad && slices.Contains(key.On, config.OnService) {
			out[key.Name] = value
		}
	}
	return out
}

// groupsOf returns the producer rules, or the implicit rule, and the consumer rules by namespace.
func groupsOf(rules mesh.PortRules, svc *mesh.Service, port mesh.Port, from string) []groupView {
	var out []groupView
	if port.Protocol == mesh.TCP && rules.Producer == nil && len(rules.Consumer) == 0 {
		return nil
	}
	if _, own := rules.Consumer[from]; from == "" || !own {
		g := groupView{rules: rules.Producer, Connections: mesh.OfConnections(rules.Producer)}
		if rules.Producer == nil {
			g.Implicit, g.Connections, g.rules = true, port.Protocol == mesh.TCP, []mesh.Rule{mesh.Implicit(svc, port.Number)}
		}
		out = append(out, g)
	}
	for _, namespace := range slices.Sorted(maps.Keys(rules.Consumer)) {
		if from == "" || from == namespace {
			out = append(out, groupView{Clients: namespace, Connections: mesh.OfConnections(rules.Consumer[namespace]), rules: rules.Consumer[namespace]})
		}
	}
	return out
}

// describeGroup fills in the rules; calls returns the timeouts and retries of one.
func (w *world) describeGroup(g groupView, calls func(mesh.Rule) []settingView) groupView {
	g.Rules = []ruleView{}
	shadowed := mesh.ShadowedBy(g.rules)
	for i, rule := range g.rules {
		view := describeRule(rule, i+1, w.backendRefs(rule.Origin))
		view.ShadowedBy = shadowed[i] + 1
		if !g.Connections {
			view.Settings = append(view.Settings, ruleSessions(rule)...)
			view.Settings = append(view.Settings, calls(rule)...)
		}
		g.Rules = append(g.Rules, view)
	}
	if !slices.ContainsFunc(g.rules, func(r mesh.Rule) bool { return r.Match.Every() }) {
		if g.NoMatchClosed = g.Connections; !g.Connections {
			g.NoMatch = 404
		}
	}
	return g
}
