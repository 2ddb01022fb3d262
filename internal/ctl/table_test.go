package ctl

import (
	"bytes"
	"testing"

	yamlv3 "go.yaml.in/yaml/v3"
)

func TestTable(t *testing.T) {
	var table table
	table.row(cell{text: "é", colour: red}, cell{text: "b"})
	table.block(plain("1"), plain("2", "3"), nil)
	table.row(cell{}, cell{text: "-"}, cell{text: "end"})
	table.row()
	if got, want := table.String(false), "é  b\n1  2\n   3\n   -  end\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// Colours take no room.
	if got, want := table.String(true), "\x1b[31mé\x1b[0m  b\n1  2\n   3\n   -  end\n\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if paintFor(&bytes.Buffer{}) {
		t.Error("a file gets colours")
	}
}

func TestLineOf(t *testing.T) {
	const text = `metadata:
  annotations:
    mizzen.dev/timeout: 1s
spec: &spec
  rules:
  - name: a
  - name: b
    backendRefs: [
      {name: x},
      {name: y,
       port: 1}]
again: *spec
`
	var root yamlv3.Node
	if err := yamlv3.Unmarshal([]byte(text), &root); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]int{
		"": 1, "nothing": 1, "spec": 4,
		"metadata.annotations[mizzen.dev/timeout]": 3,
		"metadata.annotations[mizzen.dev/other]":   2,
		"spec.rules[1].backendRefs[1].port":        11,
		"spec.rules[1].backendRefs[1].weight":      10,
		"spec.rules[1].backendRefs[7]":             8,
		"spec.rules[x]":                            5,
		"spec.rules[0].name.deeper":                6,
		"again.rules[1].name":                      7,
	} {
		if got := lineOf(root.Content[0], path); got != want {
			t.Errorf("%s: line %d, want %d", path, got, want)
		}
	}
}

func TestFindingText(t *testing.T) {
	for want, f := range map[string]finding{
		`a.b: "c": wrong; want d`: {Field: "a.b", Value: "c", Problem: "wrong", Want: "d"},
		`a.b: want d`:             {Field: "a.b", Want: "d"},
		`wrong`:                   {Problem: "wrong"},
	} {
		if got := f.text(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPercentText(t *testing.T) {
	for want, p := range map[string]float64{"100": 100, "33.3333": 100.0 / 3, "0.0001": 0.0001, "5": 5, "99.5": 99.5} {
		if got := percentText(p); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
