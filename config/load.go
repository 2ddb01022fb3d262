package config

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	sjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

// Load reads the mesh configuration from a file. See Parse.
func Load(path string) (*Mesh, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err // names the path
	}
	m, err := Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// Parse reads one YAML or JSON document, sets defaults and validates. An empty document means Default. The error has
// all mistakes, each with its field path, value and allowed values.
func Parse(b []byte) (*Mesh, error) {
	m := &Mesh{}
	if err := parse(b, m); err != nil {
		return nil, err
	}
	errs := m.checkType()
	m.setDefaults()
	if errs = append(errs, m.validate()...); len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return m, nil
}

// parse reads one YAML or JSON document into an empty struct. The error has all mistakes.
func parse[T any](b []byte, into *T) error {
	b, err := onlyDocument(b)
	if err != nil {
		return err
	}
	asJSON, err := yaml.YAMLToJSONStrict(b) // refuses duplicate keys, with their line
	if err != nil {
		return err
	}
	return decode(asJSON, into).ToAggregate()
}

// onlyDocument refuses a second document, which the YAML library would leave unread.
func onlyDocument(b []byte) ([]byte, error) {
	var only []byte
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(b)))
	for {
		doc, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return only, nil
		}
		if err != nil {
			return nil, err
		}
		if isBlank(doc) {
			continue
		}
		if only != nil {
			return nil, errors.New("more than one YAML document; want one")
		}
		only = doc
	}
}

// isBlank reports whether a document has only separators, comments and white space.
func isBlank(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && !bytes.Equal(line, []byte("---")) {
			return false
		}
	}
	return true
}

// decode fills a struct. The JSON decoder stops at the first bad value and, for durations and quantities, does not say where
// it is. So after an error, decode decodes each leaf separately to find every error with its path.
func decode[T any](asJSON []byte, into *T) field.ErrorList {
	strict, err := sjson.UnmarshalStrict(asJSON, into)
	if err == nil && len(strict) == 0 {
		return nil
	}
	var tree any
	if treeErr := sjson.UnmarshalCaseSensitivePreserveInts(asJSON, &tree); treeErr != nil {
		return field.ErrorList{field.InternalError(field.NewPath("document"), treeErr)}
	}
	if _, ok := tree.(map[string]any); !ok {
		return field.ErrorList{field.Invalid(field.NewPath("document"), tree, "want a mapping of fields")}
	}
	return leafErrors[T](nil, tree, func(v any) any { return v })
}

// leafErrors decodes each leaf below value separately. wrap puts a leaf into a document of its own.
func leafErrors[T any](path *field.Path, value any, wrap func(any) any) field.ErrorList {
	var errs field.ErrorList
	switch v := value.(type) {
	case map[string]any:
		if len(v) == 0 {
			return leafError[T](path, value, wrap)
		}
		for _, key := range sortedKeys(v) {
			errs = append(errs, leafErrors[T](child(path, key), v[key], func(leaf any) any {
				return wrap(map[string]any{key: leaf})
			})...)
		}
	case []any:
		if len(v) == 0 {
			return leafError[T](path, value, wrap)
		}
		for i, item := range v {
			errs = append(errs, leafErrors[T](path.Index(i), item, func(leaf any) any {
				return wrap([]any{leaf})
			})...)
		}
	default:
		return leafError[T](path, value, wrap)
	}
	return errs
}

func leafError[T any](path *field.Path, value any, wrap func(any) any) field.ErrorList {
	doc, err := json.Marshal(wrap(value))
	if err != nil {
		return field.ErrorList{field.InternalError(path, err)}
	}
	strict, err := sjson.UnmarshalStrict(doc, new(T))
	if typeErr := (*json.UnmarshalTypeError)(nil); errors.As(err, &typeErr) {
		return field.ErrorList{field.Invalid(path, value, "want "+typeName(typeErr.Type)+", found "+typeErr.Value)}
	}
	if err != nil {
		return field.ErrorList{field.Invalid(path, value, err.Error())}
	}
	if len(strict) > 0 {
		return field.ErrorList{field.Invalid(path, value, "unknown field; docs/reference.md lists the fields")}
	}
	return nil
}

// typeName describes a Go type in terms of YAML.
func typeName(t reflect.Type) string {
	switch kind := t.Kind(); {
	case kind >= reflect.Int && kind <= reflect.Uint64:
		return "a whole number"
	case kind == reflect.Bool:
		return "true or false"
	case kind == reflect.Slice:
		return "a list"
	case kind == reflect.String || t.Name() == "Duration":
		return "a string"
	default:
		return "a mapping of fields"
	}
}

func child(path *field.Path, key string) *field.Path {
	if path == nil {
		return field.NewPath(key)
	}
	return path.Child(key)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
