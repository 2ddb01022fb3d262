package mesh

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/validation"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
)

// Policy is an AuthorizationPolicy, without its selector.
type Policy struct {
	// Name is "<namespace>/<name>".
	Name   string
	Deny   bool       `json:",omitempty"`
	DryRun bool       `json:",omitempty"`
	Rules  []CallRule `json:",omitempty"`
}

// CallRule matches calls that match all of its parts. An empty part matches every call.
type CallRule struct {
	From  []Caller    `json:",omitempty"`
	Ports []uint16    `json:",omitempty"`
	HTTP  []HTTPMatch `json:",omitempty"`
}

// Caller is a service account, or all service accounts of a namespace if the name is empty.
type Caller struct {
	Namespace      string
	ServiceAccount string `json:",omitempty"`
}

// HTTPMatch matches requests that match all of its parts.
type HTTPMatch struct {
	Methods []string   `json:",omitempty"`
	Path    *TextMatch `json:",omitempty"`
}

// PodPolicy is a policy with its selector.
type PodPolicy struct {
	Policy    Policy
	namespace string
	selector  labels.Selector
}

// BuildPodPolicy reads a policy. PolicyConditions returns what is wrong with it.
func BuildPodPolicy(o *v1alpha1.AuthorizationPolicy) PodPolicy {
	p := PodPolicy{namespace: o.Namespace, selector: labels.Nothing()}
	p.Policy, _ = readPolicy(o)
	if selector, f := selectorOf(o); len(f) == 0 {
		p.selector = selector
	}
	return p
}

// selectorOf returns a policy's selector, or what is wrong with it.
func selectorOf(o *v1alpha1.AuthorizationPolicy) (labels.Selector, faults) {
	s := &metav1.LabelSelector{MatchLabels: map[string]string{}}
	for key, value := range o.Spec.PodSelector.MatchLabels {
		s.MatchLabels[key] = string(value)
	}
	for _, e := range o.Spec.PodSelector.MatchExpressions {
		r := metav1.LabelSelectorRequirement{Key: e.Key, Operator: e.Operator}
		for _, value := range e.Values {
			r.Values = append(r.Values, string(value))
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	var f faults
	wrong := validation.ValidateLabelSelector(s, validation.LabelSelectorValidationOptions{}, field.NewPath("spec", "podSelector"))
	slices.SortFunc(wrong, func(a, b *field.Error) int { return cmp.Compare(a.Error(), b.Error()) }) // labels are a map, which has no order
	for _, e := range wrong {
		f.add(e.Field, e.BadValue, "a label selector: "+e.Detail)
	}
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil && len(f) == 0 {
		f.add("spec.podSelector", "", "a label selector: "+err.Error())
	}
	return selector, f
}

// PoliciesOf returns the policies that select a pod, sorted by name.
func PoliciesOf(pod *Pod, policies iter.Seq[PodPolicy]) []Policy {
	var out []Policy
	for p := range policies {
		if p.namespace == pod.Namespace && p.selector.Matches(labels.Set(pod.Labels)) {
			out = append(out, p.Policy)
		}
	}
	slices.SortFunc(out, func(a, b Policy) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// readPolicy reads a policy. The schema should have checked it, but an older schema may be installed. In an Allow policy
// a rule with a fault is left out, so it allows nothing. In a Deny policy only the faulty part is left out, so the rule
// denies more.
func readPolicy(o *v1alpha1.AuthorizationPolicy) (Policy, faults) {
	_, f := selectorOf(o)
	p := Policy{Name: Key{o.Namespace, o.Name}.String(), Deny: o.Spec.Action == v1alpha1.Deny, DryRun: o.Spec.DryRun}
	if a := o.Spec.Action; a != "" && a != v1alpha1.Allow && a != v1alpha1.Deny {
		f.add("spec.action", a, "Allow or Deny") // treated as Allow, which refuses what it does not match
	}
	if p.Deny && len(o.Spec.Rules) == 0 {
		f.add("spec.rules", "", "at least one rule in a Deny")
	}
	for i, r := range o.Spec.Rules {
		before := len(f)
		rule := readCallRule(fmt.Sprintf("spec.rules[%d]", i), r, o.Namespace, &f)
		if len(f) == before || p.Deny {
			p.Rules = append(p.Rules, rule)
		}
	}
	return p, f
}

// readCallRule leaves out wrong parts, so that the rule matches more.
func readCallRule(field string, r v1alpha1.Rule, namespace string, f *faults) CallRule {
	var out CallRule
	for i, peer := range r.From {
		if account := peer.ServiceAccount; account != nil && peer.Namespace == "" && account.Name != "" {
			out.From = append(out.From, Caller{cmp.Or(account.Namespace, namespace), account.Name})
		} else if account == nil && peer.Namespace != "" {
			out.From = append(out.From, Caller{Namespace: peer.Namespace})
		} else {
			f.add(fmt.Sprintf("%s.from[%d]", field, i), "", "exactly one of serviceAccount, with a name, and namespace")
		}
	}
	if len(out.From) < len(r.From) {
		out.From = nil
	}
	for i, port := range r.Ports {
		if port < 1 || port > 65535 {
			f.add(fmt.Sprintf("%s.ports[%d]", field, i), port, "1 to 65535")
			continue
		}
		out.Ports = append(out.Ports, uint16(port))
	}
	if len(out.Ports) < len(r.Ports) {
		out.Ports = nil
	}
	slices.Sort(out.Ports)
	out.Ports = slices.Compact(out.Ports)
	switch http := readHTTPMatches(field, r, f); {
	case len(http) > 0 && len(out.Ports) == 0:
		f.add(field+".ports", "", "the ports to which http and grpc apply")
	case len(http) == len(r.HTTP)+len(r.GRPC):
		out.HTTP = http
	}
	return out
}

func readHTTPMatches(field string, r v1alpha1.Rule, f *faults) []HTTPMatch {
	if len(r.HTTP) > 0 && len(r.GRPC) > 0 {
		f.add(field+".grpc", "", "http or grpc, not both")
		return nil
	}
	var out []HTTPMatch
	for i, o := range r.HTTP {
		m := HTTPMatch{Methods: o.Methods}
		if o.Path != nil {
			path, ok := readPolicyPath(fmt.Sprintf("%s.http[%d].path.value", field, i), *o.Path, f)
			if !ok {
				continue
			}
			m.Path = path
		}
		out = append(out, m)
	}
	for i, o := range r.GRPC {
		if o.Service == "" || strings.Contains(o.Service+o.Method, "/") {
			f.add(fmt.Sprintf("%s.grpc[%d]", field, i), o.Service+"/"+o.Method, "a service, with or without a method")
			continue
		}
		path := &TextMatch{Type: Prefix, Value: "/" + o.Service}
		if o.Method != "" {
			path = &TextMatch{Type: Exact, Value: "/" + o.Service + "/" + o.Method}
		}
		out = append(out, HTTPMatch{Path: path})
	}
	return out
}

// readPolicyPath returns nil for a path that matches every request.
func readPolicyPath(field string, o v1alpha1.PathMatch, f *faults) (*TextMatch, bool) {
	switch o.Type {
	case v1alpha1.PathRegularExpression:
		if problem := checkRegex(o.Value); problem != "" {
			f.add(field, o.Value, "a regular expression in RE2 syntax: "+problem)
			return nil, false
		}
		return &TextMatch{Type: Regex, Value: o.Value}, true
	case v1alpha1.PathExact, v1alpha1.PathPrefix, "":
		if !PlainPath(o.Value).MatchString(o.Value) || strings.Contains(o.Value, "%") {
			f.add(field, o.Value, "a path that begins with /, without escapes, //, /./, /../ and ;")
			return nil, false
		}
		if o.Type == v1alpha1.PathExact {
			return &TextMatch{Type: Exact, Value: o.Value}, true
		}
		if o.Value == "/" {
			return nil, true
		}
		return &TextMatch{Type: Prefix, Value: strings.TrimSuffix(o.Value, "/")}, true
	default:
		f.add(strings.TrimSuffix(field, "value")+"type", o.Type, "Exact, PathPrefix or RegularExpression")
		return nil, false
	}
}

// PolicyFaults returns the faults of a policy, in the order of its fields, and the effect of the policy while it has them.
// A Fault's Rule and WholeRoute are not used.
func PolicyFaults(o *v1alpha1.AuthorizationPolicy) (found []Fault, effect string) {
	policy, list := readPolicy(o)
	for _, f := range list {
		found = append(found, Fault{Field: f.field, Value: f.value, Want: f.want})
	}
	return found, policy.faultyEffect(o)
}

// faultyEffect returns the effect of a policy with faults.
func (p Policy) faultyEffect(o *v1alpha1.AuthorizationPolicy) string {
	switch _, selector := selectorOf(o); {
	case len(selector) > 0:
		return "the policy applies to no pod and refuses nothing"
	case p.Deny:
		return "the policy denies every call that the valid parts of its rules match"
	default:
		return "the policy allows nothing"
	}
}

// PolicyConditions returns the conditions of a policy, in a mesh with or without identities.
func PolicyConditions(o *v1alpha1.AuthorizationPolicy, identities bool) []Condition {
	c := Condition{Type: v1alpha1.ConditionAccepted}
	policy, f := readPolicy(o)
	switch {
	case !identities:
		c.Reason = v1alpha1.ReasonNoIdentities
		c.Message = "no policy is enforced, because the mesh has no identities: set mesh.identity.enabled in the chart's values"
	case len(f) > 0:
		c.Reason, c.Message = v1alpha1.ReasonInvalid, f.String()+"; until you fix this, "+policy.faultyEffect(o)
	default:
		c.True, c.Reason, c.Message = true, v1alpha1.ReasonAccepted, policy.effect()
	}
	return []Condition{c}
}

func (p Policy) effect() string {
	what := "calls that match no rule of an Allow are refused"
	switch {
	case p.Deny:
		what = "calls that match a rule are refused"
	case len(p.Rules) == 0:
		what = "the policy has no rules, so calls that no other Allow matches are refused"
	}
	if p.DryRun {
		return "dry run, " + what + " in logs and metrics only"
	}
	return what
}

// PolicyHash returns a hash by which lists of policies differ, or "" for an empty list.
func PolicyHash(policies []Policy) string {
	if len(policies) == 0 {
		return ""
	}
	b, err := json.Marshal(policies)
	if err != nil {
		panic("mesh: marshal policies: " + err.Error()) // they are plain structs
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
