package config

import (
	"fmt"
	"slices"
)

// Mistake is a label or an annotation with our prefix that has no effect on its object, or has a bad value.
type Mistake struct {
	Kind        KeyKind
	Name, Value string
	// Problem says what is wrong, and Want what would be right, if that is known.
	Problem, Want string
}

func (m Mistake) Error() string {
	text := fmt.Sprintf("%s %s: %q: %s", m.Kind, m.Name, m.Value, m.Problem)
	if m.Want != "" {
		text += "; want " + m.Want
	}
	return text
}

// KeyMistakes returns the mistakes on a namespace or a pod, labels first, in the order of their names.
func KeyMistakes(on Object, labels, annotations map[string]string) []Mistake {
	return append(mistakes(on, Label, labels), mistakes(on, Annotation, annotations)...)
}

func mistakes(on Object, kind KeyKind, found map[string]string) []Mistake {
	var out []Mistake
	for _, name := range sortedKeys(found) {
		if !ours(name) {
			continue
		}
		m := Mistake{Kind: kind, Name: name, Value: found[name]}
		key, err := findKey(on, kind, name)
		switch {
		case err != nil:
			m.Problem, m.Want = unknownOn(on, kind, name)
		case !key.allows(m.Value):
			m.Problem, m.Want = "not allowed", key.Values
		default:
			continue
		}
		out = append(out, m)
	}
	return out
}

// allows reports whether a namespace's or a pod's key may have a value.
func (k Key) allows(value string) bool {
	switch {
	case k.Name == LabelRevision:
		return validRevision(value)
	case k.Kind == Label:
		return value == InjectionEnabled || value == InjectionDisabled
	case k.setMTLS != nil:
		return k.setMTLS(&MTLS{}, value)
	case k.set != nil:
		s := Default().Sidecar.clone()
		return k.set(&s, value)
	}
	return true
}

// unknownOn explains an unknown key: it may belong to another kind of object, be another kind of key, or be misspelt.
func unknownOn(on Object, kind KeyKind, name string) (problem, want string) {
	problem = fmt.Sprintf("not a known %s for a %s, so it has no effect", kind, on)
	var known []string
	for _, key := range Keys {
		switch {
		case key.Name == name && slices.Contains(key.On, on):
			return problem, withArticle(key.Kind)
		case key.Name == name:
			return problem, fmt.Sprintf("it on a %s", key.On[0])
		case slices.Contains(key.On, on):
			known = append(known, key.Name)
		}
	}
	if near, ok := Nearest(name, known); ok {
		return problem, near
	}
	return problem, ""
}

// Misplaced returns keys on a workload itself, in place of its pod template, where they have no effect.
func Misplaced(labels, annotations map[string]string) []Mistake {
	var out []Mistake
	for _, kind := range []KeyKind{Label, Annotation} {
		found := labels
		if kind == Annotation {
			found = annotations
		}
		for _, name := range sortedKeys(found) {
			if ours(name) {
				out = append(out, Mistake{kind, name, found[name], "it has no effect on the workload itself", "it in the metadata of the pod template"})
			}
		}
	}
	return out
}

// KeysOn returns the names of the keys of an object.
func KeysOn(on Object, kind KeyKind) []string {
	var out []string
	for _, key := range Keys {
		if key.Kind == kind && slices.Contains(key.On, on) {
			out = append(out, key.Name)
		}
	}
	slices.Sort(out)
	return out
}
