package ctl

import (
	"fmt"
	"slices"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// policiesOf returns the settings of the XBackendTrafficPolicy that applies to a Service.
func (w *world) policiesOf(key mesh.Key) []settingView {
	source := ""
	for _, s := range w.targeted(key, mesh.KindTrafficPolicy) {
		if s.Conditions[0].True {
			source = s.Object.String()
		}
	}
	var out []settingView
	traffic := w.Service(key).Traffic
	if b := traffic.RetryBudget; b != nil {
		out = append(out, settingView{"retry budget", fmt.Sprintf("%d %% of active requests, %d at least", b.Percent, b.MinConcurrent), source})
	}
	if s := traffic.Session; s != nil {
		out = append(out, settingView{"session", sessionText(*s), source})
	}
	return out
}

func sessionText(s mesh.Session) string {
	if s.Header {
		return "by header " + s.Name
	}
	if s.MaxAge > 0 {
		return fmt.Sprintf("by cookie %s for %s", s.Name, s.MaxAge)
	}
	return "by cookie " + s.Name
}

// ruleSessions returns the sessions that a rule itself sets: one, or a cookie for each of several backends.
func ruleSessions(r mesh.Rule) []settingView {
	var out []settingView
	for _, b := range slices.Concat(r.Action.Backends, r.Action.Pinned) {
		if b.Session != nil && b.Session.ByRule {
			setting := settingView{"session", sessionText(*b.Session), fmt.Sprintf("spec.rules[%d].sessionPersistence", r.Origin.Rule)}
			if !slices.Contains(out, setting) {
				out = append(out, setting)
			}
		}
	}
	return out
}

// policyProblems returns policies that target a Service but do not apply.
func (w *world) policyProblems(key mesh.Key) []problemView {
	var out []problemView
	for _, s := range w.targeted(key, mesh.KindTrafficPolicy) {
		if c := s.Conditions[0]; !c.True {
			out = append(out, problemView{Object: s.Object.String(), Reason: string(c.Reason), Message: c.Message})
		}
	}
	return out
}
