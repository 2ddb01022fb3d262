// Package dockerfile reads the few instructions that this repository's Dockerfile has, so that a release builds for
// any platform what the Dockerfile says without a container engine. It may import the parser of BuildKit.
package dockerfile

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Copy is a COPY instruction: one file, or what is in one directory.
type Copy struct {
	From  string // path in the build context
	To    string
	Owner string // UID:GID, "" is root
}

// Stage is what one target says.
type Stage struct {
	Name       string
	Base       string // "scratch", or an image
	Labels     map[string]string
	Copies     []Copy
	User       string
	Entrypoint []string
}

// Parse returns the stages of a Dockerfile. The arguments take precedence over the defaults of ARG. An instruction
// that it does not know is an error: an image that lacks it would be another one.
func Parse(text []byte, args map[string]string) ([]Stage, error) {
	result, err := parser.Parse(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	var stages []Stage
	known := map[string]string{}
	for _, node := range result.AST.Children {
		words := wordsOf(node, func(name string) string { return known[name] })
		instruction := strings.ToUpper(node.Value)
		fail := func(allowed string) error {
			return fmt.Errorf("line %d: %q: allowed is %s", node.StartLine, node.Original, allowed)
		}
		if instruction == "ARG" {
			name, value, _ := strings.Cut(words[0], "=")
			known[name] = value
			maps.Copy(known, args)
			continue
		}
		if instruction == "FROM" {
			if len(words) != 3 || !strings.EqualFold(words[1], "AS") {
				return nil, fail("FROM image AS name")
			}
			stages = append(stages, Stage{Base: words[0], Name: words[2], Labels: map[string]string{}})
			continue
		}
		if len(stages) == 0 {
			return nil, fail("ARG or FROM at the beginning")
		}
		stage := &stages[len(stages)-1]
		switch instruction {
		case "LABEL":
			for i := 0; i+1 < len(words); i += 3 { // the parser gives name, value, separator
				stage.Labels[words[i]] = words[i+1]
			}
		case "COPY":
			c := Copy{}
			for _, flag := range node.Flags {
				owner, ok := strings.CutPrefix(flag, "--chown=")
				if !ok {
					return nil, fail("no flag but --chown")
				}
				c.Owner = owner
			}
			if len(words) != 2 {
				return nil, fail("COPY from to")
			}
			c.From, c.To = words[0], words[1]
			stage.Copies = append(stage.Copies, c)
		case "USER":
			stage.User = words[0]
		case "ENTRYPOINT":
			if !node.Attributes["json"] {
				return nil, fail(`ENTRYPOINT ["program", "argument"]`)
			}
			stage.Entrypoint = words
		default:
			return nil, fail("ARG, FROM, LABEL, COPY, USER or ENTRYPOINT")
		}
	}
	return stages, nil
}

// wordsOf returns an instruction's arguments without quotes and with variables replaced.
func wordsOf(node *parser.Node, variable func(string) string) []string {
	var words []string
	for n := node.Next; n != nil; n = n.Next {
		words = append(words, os.Expand(strings.Trim(n.Value, `"`), variable))
	}
	return words
}
