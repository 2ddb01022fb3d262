package ctl

import (
	"fmt"
	"regexp"
	"strconv"

	yamlv3 "go.yaml.in/yaml/v3"
)

// lookup returns the value of nested keys, or nil.
func lookup(node *yamlv3.Node, keys ...string) *yamlv3.Node {
	for _, key := range keys {
		if _, node = entry(node, key); node == nil {
			return nil
		}
	}
	return node
}

// entry returns the key and the value of a mapping.
func entry(node *yamlv3.Node, key string) (at, value *yamlv3.Node) {
	node = resolve(node)
	if node == nil || node.Kind != yamlv3.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == key {
			return node.Content[i], resolve(node.Content[i+1])
		}
	}
	return nil, nil
}

func resolve(node *yamlv3.Node) *yamlv3.Node {
	if node != nil && node.Kind == yamlv3.AliasNode {
		return node.Alias
	}
	return node
}

func text(node *yamlv3.Node, keys ...string) string {
	if value := lookup(node, keys...); value != nil && value.Kind == yamlv3.ScalarNode {
		return value.Value
	}
	return ""
}

// step is a key or an index of a path such as spec.rules[0].name or metadata.annotations[mizzen.dev/timeout].
var step = regexp.MustCompile(`\[([^\]]*)\]|([^.\[\]]+)`)

// lineOf returns the line of a field, or of the innermost existing part of its path.
func lineOf(node *yamlv3.Node, path string) int {
	line := node.Line
	for _, match := range step.FindAllStringSubmatch(path, -1) {
		key := match[1] + match[2]
		node = resolve(node)
		if node.Kind == yamlv3.SequenceNode {
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(node.Content) {
				return line
			}
			node = node.Content[i]
			line = node.Line
			continue
		}
		at, value := entry(node, key)
		if value == nil {
			return line
		}
		line, node = at.Line, value
	}
	return line
}

// place returns "file:line", as editors and compilers write it.
func place(file string, line int) string {
	if line == 0 {
		return file
	}
	return fmt.Sprintf("%s:%d", file, line)
}
