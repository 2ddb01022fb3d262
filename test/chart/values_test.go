package chart

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/golden"
)

// value is one line of values.yaml that holds no further values.
type value struct{ path, text, comment string }

// schema is as much of JSON Schema as values.schema.json uses.
type schema struct {
	Ref                  string             `json:"$ref"`
	Type                 any                `json:"type"`
	Properties           map[string]*schema `json:"properties"`
	AdditionalProperties json.RawMessage    `json:"additionalProperties"`
	Items                *schema            `json:"items"`
	Defs                 map[string]*schema `json:"$defs"`
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(chartDir, name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func readSchema(t *testing.T) *schema {
	t.Helper()
	s := &schema{}
	if err := json.Unmarshal(readFile(t, "values.schema.json"), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *schema) resolve(t *testing.T, root *schema) *schema {
	t.Helper()
	if s.Ref == "" {
		return s
	}
	def := root.Defs[strings.TrimPrefix(s.Ref, "#/$defs/")]
	if def == nil {
		t.Fatalf("schema has no %s", s.Ref)
	}
	return def
}

func readValues(t *testing.T) *yaml.Node {
	t.Helper()
	doc := &yaml.Node{}
	if err := yaml.Unmarshal(readFile(t, "values.yaml"), doc); err != nil {
		t.Fatal(err)
	}
	return doc.Content[0]
}

// walk calls visit for each key of a mapping and, where visit says so, goes down into it.
func walk(n *yaml.Node, path string, visit func(path string, key, value *yaml.Node) bool) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		p := strings.TrimPrefix(path+"."+key.Value, ".")
		if visit(p, key, val) && val.Kind == yaml.MappingNode {
			walk(val, p, visit)
		}
	}
}

// leaves gives what is a value to the user: resources are one, as Kubernetes writes them.
func leaves(t *testing.T) []value {
	var out []value
	walk(readValues(t), "", func(path string, key, val *yaml.Node) bool {
		comment := strings.TrimSpace(strings.ReplaceAll(strings.TrimPrefix(key.HeadComment, "# "), "\n# ", " "))
		inner := val.Kind == yaml.MappingNode && len(val.Content) > 0 && key.Value != "resources"
		if !inner {
			out = append(out, value{path, flow(t, val), comment})
		}
		return inner
	})
	return out
}

func flow(t *testing.T, n *yaml.Node) string {
	t.Helper()
	var v any
	if err := n.Decode(&v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEveryValueHasAComment(t *testing.T) {
	for _, v := range leaves(t) {
		if v.comment == "" {
			t.Errorf("values.yaml: %s has no comment", v.path)
		}
	}
}

func TestREADMEListsTheValues(t *testing.T) {
	table := &strings.Builder{}
	fmt.Fprint(table, "\n| value | default | meaning |\n| --- | --- | --- |\n")
	for _, v := range leaves(t) {
		fmt.Fprintf(table, "| `%s` | `%s` | %s |\n", v.path, v.text, v.comment)
	}
	const begin, end = "-update` -->\n", "<!-- end -->"
	readme := string(readFile(t, "README.md"))
	i, j := strings.Index(readme, begin), strings.Index(readme, end)
	if i < 0 || j < i {
		t.Fatal("README.md: the marks of the values table are missing")
	}
	golden.Check(t, filepath.Join(chartDir, "README.md"), []byte(readme[:i+len(begin)]+table.String()+"\n"+readme[j:]))
}

func TestSchemaAndValuesAreInStep(t *testing.T) {
	root := readSchema(t)
	compare(t, root, root, readValues(t), "")
}

func compare(t *testing.T, root, s *schema, n *yaml.Node, path string) {
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, val := n.Content[i].Value, n.Content[i+1]
		p := strings.TrimPrefix(path+"."+key, ".")
		seen[key] = true
		child := s.Properties[key]
		if child == nil {
			t.Errorf("values.schema.json does not have %s", p)
			continue
		}
		child = child.resolve(t, root)
		if val.Kind == yaml.MappingNode && len(child.Properties) > 0 && len(val.Content) > 0 && key != "resources" {
			compare(t, root, child, val, p)
		}
	}
	for key := range s.Properties {
		if !seen[key] && (path != "" || key != "global") { // "global" is Helm's own
			t.Errorf("values.yaml does not have %s", strings.TrimPrefix(path+"."+key, "."))
		}
	}
}

// Every object of the schema with fields of its own refuses unknown ones.
func TestSchemaIsStrict(t *testing.T) {
	root := readSchema(t)
	var check func(s *schema, path string)
	check = func(s *schema, path string) {
		if s == nil {
			return
		}
		if len(s.Properties) > 0 && string(s.AdditionalProperties) != "false" {
			t.Errorf("%s takes unknown fields", path)
		}
		for name, p := range s.Properties {
			check(p, path+"."+name)
		}
		for name, d := range s.Defs {
			check(d, "$defs."+name)
		}
		check(s.Items, path+"[]")
	}
	check(root, "values")
}

// Every field of the mesh configuration can be set by a value.
func TestEveryMeshFieldIsAValue(t *testing.T) {
	root := readSchema(t)
	var check func(typ reflect.Type, s *schema, path string)
	check = func(typ reflect.Type, s *schema, path string) {
		s = s.resolve(t, root)
		for i := range typ.NumField() {
			name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
			p := path + "." + name
			switch {
			case name == "-": // no field of the file
				continue
			case name == "" || p == "mesh.sidecar.image" || p == "mesh.sidecar.imagePullPolicy":
				continue // proxy.image gives these
			case p == "mesh.cni", p == "mesh.revision":
				continue // cni.enabled and revision give them
			case p == "mesh.gateway":
				check(typ.Field(i).Type, root.Properties["gateway"], "gateway")
			case s.Properties[name] == nil:
				t.Errorf("values.schema.json does not have %s", p)
			case typ.Field(i).Type.Kind() == reflect.Struct && name != "resources":
				check(typ.Field(i).Type, s.Properties[name], p)
			}
		}
	}
	check(reflect.TypeFor[config.Mesh](), root.Properties["mesh"], "mesh")
}
