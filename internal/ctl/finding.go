package ctl

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// severity of a finding.
type severity string

const (
	severityError   severity = "error"
	severityWarning severity = "warning"
)

// finding is one line of check's output.
type finding struct {
	// File and Line are empty for an object of the cluster.
	File     string   `json:"file,omitempty"`
	Line     int      `json:"line,omitempty"`
	Severity severity `json:"severity"`
	// Object is "Kind namespace/name".
	Object string `json:"object,omitempty"`
	// Field is the path from the object, and Value the field's value.
	Field string `json:"field,omitempty"`
	Value string `json:"value,omitempty"`
	// Problem is the mistake or its effect, and Want describes the allowed values.
	Problem string `json:"problem,omitempty"`
	Want    string `json:"want,omitempty"`
}

// finding on a field of the object.
func (o *fileObject) finding(s severity, field, value, problem, want string) finding {
	return finding{
		File: o.file, Line: lineOf(o.node, field), Severity: s,
		Object: o.String(), Field: field, Value: value, Problem: problem, Want: want,
	}
}

// text is what follows the object: `field: "value": problem; want …`.
func (f finding) text() string {
	var parts []string
	if f.Field != "" {
		parts = append(parts, f.Field)
	}
	if f.Value != "" {
		parts = append(parts, fmt.Sprintf("%q", f.Value))
	}
	var said []string
	for _, s := range []string{f.Problem, f.Want} {
		if s != "" {
			said = append(said, s)
		}
	}
	if f.Want != "" {
		said[len(said)-1] = "want " + f.Want
	}
	return strings.Join(append(parts, strings.Join(said, "; ")), ": ")
}

// line is the whole finding in a line, for errors.
func (f finding) line() string {
	text := f.text()
	if f.Object != "" {
		text = f.Object + ": " + text
	}
	return place(f.File, f.Line) + ": " + text
}

// sortFindings sorts findings by file, line and text, and removes duplicates.
func sortFindings(findings []finding, files []string) []finding {
	slices.SortStableFunc(findings, func(a, b finding) int {
		return cmp.Or(
			cmp.Compare(rank(files, a.File), rank(files, b.File)), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Object, b.Object), cmp.Compare(a.Field, b.Field),
		)
	})
	return slices.Compact(findings)
}

// rank sorts the cluster's objects last.
func rank(files []string, file string) int {
	if i := slices.Index(files, file); i >= 0 {
		return i
	}
	return len(files)
}

// renderFindings gives a line for each, in columns.
func renderFindings(findings []finding, p paint) string {
	var t table
	colours := map[severity]colour{severityError: red, severityWarning: yellow}
	for _, f := range findings {
		t.row(cell{text: cmp.Or(place(f.File, f.Line), "cluster")}, cell{text: string(f.Severity), colour: colours[f.Severity]},
			cell{text: cmp.Or(f.Object, "-"), colour: bold}, cell{text: f.text()})
	}
	return t.String(p)
}
