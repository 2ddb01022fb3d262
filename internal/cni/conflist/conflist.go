// Package conflist adds the plugin's entry to a CNI configuration, and removes it. It is pure: bytes in, bytes out. It
// does not change other parts of the configuration.
// https://www.cni.dev/docs/spec/#section-1-network-configuration-format
package conflist

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
)

// Type is the name of the plugin and of its binary.
const Type = "mizzen-cni"

// Entry has the plugin's settings.
type Entry struct {
	Type   string `json:"type"`
	Socket string `json:"socket"`
}

// With returns the configuration with the entry after all others; changed is false if the configuration already has the
// entry. A configuration of a single plugin (.conf) becomes a list.
func With(data []byte, e Entry) (out []byte, changed bool, err error) {
	e.Type = Type
	fields, err := parse(data)
	if err != nil {
		return nil, false, err
	}
	if _, ok := fields["plugins"]; !ok {
		if fields, err = list(fields); err != nil {
			return nil, false, err
		}
	}
	plugins, err := pluginsOf(fields)
	if err != nil {
		return nil, false, err
	}
	entry, err := json.Marshal(e)
	if err != nil {
		return nil, false, err
	}
	i := slices.IndexFunc(plugins, ours)
	others := slices.DeleteFunc(slices.Clone(plugins), ours)
	switch {
	case len(others) == 0:
		return nil, false, errors.New("it has no plugin that connects pods")
	case i > 0 && len(plugins) == len(others)+1 && same(plugins[i], entry):
		return data, false, nil
	}
	out, err = render(fields, append(others, entry))
	return out, true, err
}

// Without returns the configuration without the entry; changed is false if the configuration has no entry.
func Without(data []byte) (out []byte, changed bool, err error) {
	fields, err := parse(data)
	if err != nil {
		return nil, false, err
	}
	plugins, err := pluginsOf(fields)
	if err != nil {
		return nil, false, err
	}
	others := slices.DeleteFunc(slices.Clone(plugins), ours)
	if len(others) == len(plugins) {
		return data, false, nil
	}
	out, err = render(fields, others)
	return out, true, err
}

type fields map[string]json.RawMessage

func parse(data []byte) (fields, error) {
	var f fields
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	if f == nil {
		return nil, errors.New("it is null; want an object")
	}
	return f, nil
}

// list turns the configuration of a single plugin into a list, as the runtime does.
func list(single fields) (fields, error) {
	var kind string
	if err := json.Unmarshal(single["type"], &kind); err != nil || kind == "" {
		return nil, errors.New(`it has neither "plugins" nor "type"`)
	}
	plugin, err := json.Marshal(single)
	if err != nil {
		return nil, err
	}
	plugins, err := json.Marshal([]json.RawMessage{plugin})
	if err != nil {
		return nil, err
	}
	out := fields{"plugins": plugins}
	for _, name := range []string{"cniVersion", "name"} {
		if value, ok := single[name]; ok {
			out[name] = value
		}
	}
	return out, nil
}

func pluginsOf(f fields) ([]json.RawMessage, error) {
	var plugins []json.RawMessage
	raw, ok := f["plugins"]
	if !ok {
		return nil, nil
	}
	if err := json.Unmarshal(raw, &plugins); err != nil {
		return nil, fmt.Errorf("plugins: %w", err)
	}
	return plugins, nil
}

func ours(plugin json.RawMessage) bool {
	var p struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(plugin, &p) == nil && p.Type == Type
}

func same(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func render(f fields, plugins []json.RawMessage) ([]byte, error) {
	raw, err := json.Marshal(plugins)
	if err != nil {
		return nil, err
	}
	f["plugins"] = raw
	compact, err := json.Marshal(f)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, compact, "", "  "); err != nil {
		return nil, err
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
