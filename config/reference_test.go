package config

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/internal/golden"
)

//go:generate go test . -run TestReferenceIsFresh -update

// docs/reference.md is written from Keys and from the comments of mesh.go and gateway.go, so that it cannot drift.
func TestReferenceIsFresh(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Reference\n\n<!-- Written by `go generate ./config`; edit config/keys.go, config/mesh.go and config/gateway.go instead. -->\n\n")
	writeKeys(&b)
	writeFields(t, &b)
	golden.Check(t, "../docs/reference.md", b.Bytes())
}

func writeKeys(b *bytes.Buffer) {
	b.WriteString("## Labels and annotations\n\n" +
		"A pod with a bad value or with an unknown key with the prefix `" + Group + "/` is refused. Such a key or value on a namespace\n" +
		"is refused when it is written. An annotation of a namespace is the default for its pods (namespaces.md). A bad annotation of\n" +
		"a Service is ignored, and an event says so. A route with a bad annotation is not accepted.\n\n" +
		"| Key | Kind | On | Allowed | Default | Meaning |\n|---|---|---|---|---|---|\n")
	for _, key := range Keys {
		on := make([]string, len(key.On))
		for i, object := range key.On {
			on[i] = string(object)
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s | %s |\n", key.Name, key.Kind, strings.Join(on, ", "), key.Values, key.Default, key.Doc)
	}
}

func writeFields(t *testing.T, b *bytes.Buffer) {
	fmt.Fprintf(b, "\n## %s\n\nA single YAML document. Unknown fields, duplicates and bad values are refused, and all errors are reported at once.\n\n"+
		"| Field | Type | Meaning |\n|---|---|---|\n", Kind)
	walkFields(b, fieldComments(t), "", reflect.TypeFor[Mesh]())

	defaults, err := yaml.Marshal(Default())
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(b, "\nAn empty document stands for:\n\n```yaml\n%s```\n\nPorts that are opaque by default (`protocolDetection.opaquePorts`) belong to protocols in which the server\n"+
		"speaks first, or which are never HTTP. `config/defaults.go` has the reason for each.\n", defaults)
}

func walkFields(b *bytes.Buffer, comments map[string]string, prefix string, typ reflect.Type) {
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || name == "-" || len(f.Index) > 1 { // the inlined type, and what is no field of the file
			continue
		}
		own := f.Type
		if own.Kind() == reflect.Pointer {
			own = own.Elem()
		}
		if own.Kind() == reflect.Struct && own.PkgPath() == typ.PkgPath() {
			walkFields(b, comments, prefix+name+".", own)
			continue
		}
		fmt.Fprintf(b, "| `%s%s` | %s | %s |\n", prefix, name, yamlType(f.Type), comments[typ.Name()+"."+f.Name])
	}
}

func yamlType(typ reflect.Type) string {
	switch {
	case typ.Kind() == reflect.Pointer:
		return yamlType(typ.Elem())
	case typ.Kind() == reflect.Slice:
		return "list of " + yamlType(typ.Elem())
	case typ.Kind() == reflect.Map:
		return "map of " + yamlType(typ.Elem())
	case typ.Name() == "Duration":
		return "duration"
	case typ.Kind() == reflect.Struct:
		return typ.Name()
	default:
		return typ.Kind().String()
	}
}

// fieldComments gives "<struct>.<field>" → comment, in one line. A field without one belongs to the
// comment above it, as in "ExcludeInboundPorts and ExcludeOutboundPorts are …".
func fieldComments(t *testing.T) map[string]string {
	comments := map[string]string{}
	for _, name := range []string{"mesh.go", "gateway.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if fields, ok := spec.Type.(*ast.StructType); ok {
				addComments(comments, spec.Name.Name, fields)
			}
			return false
		})
	}
	if comments["Mesh.ClusterDomain"] == "" {
		t.Fatal("found no comments in mesh.go")
	}
	return comments
}

func addComments(comments map[string]string, typ string, fields *ast.StructType) {
	last := ""
	for _, f := range fields.Fields.List {
		if f.Doc != nil {
			last = strings.ReplaceAll(strings.Join(strings.Fields(f.Doc.Text()), " "), "<", "&lt;")
		}
		for _, name := range f.Names {
			comments[typ+"."+name.Name] = last
		}
	}
}
