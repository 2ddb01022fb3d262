package ctl

import (
	"io"
	"slices"
	"strings"
)

// routesView is the format of -o json and yaml.
type routesView struct {
	Services []serviceView `json:"services,omitempty"`
	Gateways []gatewayView `json:"gateways,omitempty"`
	Requests []requestView `json:"requests,omitempty"`
}

func (v routesView) empty() bool { return len(v.Services)+len(v.Gateways)+len(v.Requests) == 0 }

func (v routesView) write(out io.Writer, format string) error { return write(out, format, v, v.table) }

const defaultsNote = "Without a setting there is no timeout, and sidecars retry only calls that no server can have begun."

const gatewayDefaultsNote = "Without a setting there is no timeout, and gateways retry only calls that no server can have begun."

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
	for _, gw := range v.Gateways {
		parts = append(parts, renderGateway(gw, p))
	}
	switch {
	case slices.ContainsFunc(v.Services, serviceView.hasRules):
		parts = append(parts, p.in(dim, defaultsNote)+"\n")
	case slices.ContainsFunc(v.Gateways, gatewayView.hasRules):
		parts = append(parts, p.in(dim, gatewayDefaultsNote)+"\n")
	}
	return strings.Join(parts, "\n")
}
