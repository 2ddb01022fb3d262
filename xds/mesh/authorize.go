package mesh

import (
	"slices"
	"strings"
)

// Call is a call to a pod, with what policies look at.
type Call struct {
	// Port is the container's port.
	Port uint16
	// Caller is zero for a caller without an identity.
	Caller Caller
	// Method and Path, which includes the query, matter at ports that are treated as HTTP. CONNECT is always refused there.
	Method, Path string
}

// Verdict is the policies' decision about a call.
type Verdict struct {
	Allowed bool
	// By is the policy that decided; empty if none matches.
	By string
}

// Authorize returns what the sidecar of a pod does with a call, without Envoy. wouldBe is what it would do if policies in
// dry run were enforced too.
func Authorize(policies []Policy, c Call) (verdict, wouldBe Verdict) {
	var enforced []Policy
	for _, p := range policies {
		if !p.DryRun {
			enforced = append(enforced, p)
		}
	}
	verdict = authorize(enforced, c)
	if !verdict.Allowed {
		return verdict, verdict
	}
	return verdict, authorize(policies, c)
}

func authorize(policies []Policy, c Call) Verdict {
	first := func(deny bool) (name string, found bool) {
		for _, p := range policies {
			if found = found || p.Deny == deny; p.Deny == deny && p.matches(c) {
				return p.Name, true
			}
		}
		return "", found
	}
	if by, _ := first(true); by != "" {
		return Verdict{By: by}
	}
	by, allows := first(false)
	return Verdict{Allowed: by != "" || !allows, By: by}
}

func (p Policy) matches(c Call) bool {
	return slices.ContainsFunc(p.Rules, func(r CallRule) bool {
		return (len(r.From) == 0 || slices.ContainsFunc(r.From, c.Caller.is)) &&
			(len(r.Ports) == 0 || slices.Contains(r.Ports, c.Port)) &&
			(len(r.HTTP) == 0 || slices.ContainsFunc(r.HTTP, func(m HTTPMatch) bool { return m.matches(c, p.Deny) }))
	})
}

func (c Caller) is(wanted Caller) bool {
	return c.Namespace == wanted.Namespace && (wanted.ServiceAccount == "" || c.ServiceAccount == wanted.ServiceAccount)
}

func (m HTTPMatch) matches(c Call, deny bool) bool {
	if len(m.Methods) > 0 && !slices.Contains(m.Methods, c.Method) {
		return false
	}
	if m.Path == nil {
		return true
	}
	path := c.Path
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	if !m.Path.PlainPath().MatchString(path) {
		return deny
	}
	return m.Path.matches(path)
}

// HTTPPorts returns the ports that are treated as HTTP, sorted. At these ports policies look at requests, callers'
// certificates are forwarded, or refusals are answered in HTTP.
func (i Inbound) HTTPPorts() []uint16 {
	out := slices.Concat(i.ForwardCert, i.HTTP)
	for _, p := range i.Policies {
		for _, r := range p.Rules {
			if len(r.HTTP) > 0 {
				out = append(out, r.Ports...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// PolicyPorts returns the ports that rules name, and those that are treated as HTTP, sorted.
func (i Inbound) PolicyPorts() []uint16 {
	out := i.HTTPPorts()
	for _, p := range i.Policies {
		for _, r := range p.Rules {
			out = append(out, r.Ports...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// PoliciesAt returns the policies with only the rules that can match a call at a port, without the rules' ports. Port 0
// stands for all ports that are not among PolicyPorts.
func (i Inbound) PoliciesAt(port uint16) []Policy {
	var out []Policy
	for _, p := range i.Policies {
		var rules []CallRule
		for _, r := range p.Rules {
			if len(r.Ports) == 0 || slices.Contains(r.Ports, port) {
				r.Ports = nil
				rules = append(rules, r)
			}
		}
		p.Rules = rules
		if !p.Deny || len(rules) > 0 {
			out = append(out, p)
		}
	}
	return out
}
