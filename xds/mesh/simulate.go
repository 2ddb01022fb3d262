package mesh

import (
	"regexp"
	"strings"
)

// Request has the parts of a request that Route looks at.
type Request struct {
	Method string
	// Path with the query, as sent; empty for CONNECT.
	Path string
	// Headers by name in lower case.
	Headers map[string][]string
}

// Route returns the first rule that matches a request, as Envoy finds it. It returns nil if no rule matches: such a request
// is answered with 404.
func Route(rules []Rule, r Request) *Rule {
	for i := range rules {
		if rules[i].Match.Matches(r) {
			return &rules[i]
		}
	}
	return nil
}

// Matches reports whether all of the match's conditions hold.
func (m Match) Matches(r Request) bool {
	path, query, _ := strings.Cut(r.Path, "?")
	if !m.Path.matches(path) || (m.Method != "" && m.Method != r.Method) {
		return false
	}
	for _, h := range m.Headers {
		values, ok := r.Headers[h.Name]
		// Several fields of the same name are one value: RFC 9110, 5.2.
		if !ok || !h.matches(strings.Join(values, ",")) {
			return false
		}
	}
	for _, q := range m.Query {
		value, ok := firstParameter(query, q.Name)
		if !ok || !q.matches(value) {
			return false
		}
	}
	return true
}

func (t TextMatch) matches(text string) bool {
	switch t.Type {
	case Exact:
		return text == t.Value
	case Regex:
		re, err := regexp.Compile(`^(?:` + t.Value + `)$`)
		return err == nil && re.MatchString(text)
	default:
		rest, ok := strings.CutPrefix(text, t.Value)
		return t.Value == "/" || (ok && (rest == "" || rest[0] == '/'))
	}
}

// firstParameter returns the first value of a query parameter, not decoded, as Envoy compares it.
func firstParameter(query, name string) (string, bool) {
	for pair := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(pair, "="); key == name && pair != "" {
			return value, true
		}
	}
	return "", false
}
