package ctl

import (
	"encoding/json"
	"io"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// routesView is what -o json and yaml write.
type routesView struct {
	Services []serviceView `json:"services,omitempty"`
	Requests []requestView `json:"requests,omitempty"`
}

func (v routesView) write(out io.Writer, format string) error {
	var text []byte
	var err error
	switch format {
	case "json":
		text, err = json.MarshalIndent(v, "", "  ")
		text = append(text, '\n')
	case "yaml":
		text, err = yaml.Marshal(v)
	default:
		text = []byte(v.table(paintFor(out)))
	}
	if err != nil {
		return err
	}
	_, err = out.Write(text)
	return err
}

const defaultsNote = "Where no setting stands: no timeout, and only calls of which no server can have begun are tried again."

func (v routesView) table(p paint) string {
	var parts []string
	for _, r := range v.Requests {
		parts = append(parts, renderRequest(r, p))
	}
	var unrouted []serviceView
	for _, s := range v.Services {
		if len(v.Services) > 1 && s.unrouted() {
			unrouted = append(unrouted, s)
			continue
		}
		parts = append(parts, renderService(s, p))
	}
	if len(unrouted) > 0 {
		parts = append(parts, renderUnrouted(unrouted, p))
	}
	if slices.ContainsFunc(v.Services, serviceView.hasRules) {
		parts = append(parts, p.in(dim, defaultsNote)+"\n")
	}
	return strings.Join(parts, "\n")
}
