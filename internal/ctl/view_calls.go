package ctl

import (
	"fmt"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// callSettings returns the timeouts and retries of a rule that somebody has set.
//
// sources are mesh.CallSources of the rule. own is the Service that is shown, or empty for a Gateway.
func callSettings(r mesh.Rule, sources []mesh.SaidBy, own string) []settingView {
	if r.Action.Redirect != nil || r.Action.Fail != 0 {
		return nil
	}
	calls := r.Action.Calls
	var out []settingView
	add := func(name, value, annotation, field, otherwise string, says func(config.Calls) bool) {
		source := otherwise
		for _, s := range sources {
			if says(s.Calls) {
				source = sourceText(s, own, annotation, fmt.Sprintf("spec.rules[%d].%s", r.Origin.Rule, field))
				break
			}
		}
		if source != "" {
			out = append(out, settingView{name, value, source})
		}
	}
	add("timeout", boundText(calls.Timeout), config.AnnotationTimeout, "timeouts.request", "",
		func(c config.Calls) bool { return c.Timeout != nil })
	add("timeout of each try", boundText(calls.BackendTimeout), config.AnnotationBackendTimeout, "timeouts.backendRequest", "",
		func(c config.Calls) bool { return c.BackendTimeout != nil })
	add("retry on", retryText(calls), config.AnnotationRetryOn, "retry", "", func(c config.Calls) bool { return c.RetryOn != nil })
	if calls.RetryAttempts != nil {
		add("further tries", fmt.Sprint(*calls.RetryAttempts), config.AnnotationRetryAttempts, "retry.attempts", "default",
			func(c config.Calls) bool { return c.RetryAttempts != nil })
	}
	add("back-off", calls.RetryBackoff.String(), config.AnnotationRetryBackoff, "retry.backoff", "",
		func(c config.Calls) bool { return c.RetryBackoff != nil })
	return out
}

func sourceText(s mesh.SaidBy, own, annotation, field string) string {
	if s.Fields {
		return field
	}
	switch {
	case s.Object == own:
		return annotation + " of the Service"
	case strings.HasPrefix(s.Object, "Service "):
		return annotation + " of " + s.Object
	}
	return annotation + s.Suffix
}

func boundText(d time.Duration) string {
	if d == 0 {
		return "none"
	}
	return d.String()
}

func retryText(c mesh.CallPolicy) string {
	texts := append([]string(nil), c.RetryOn...)
	for _, code := range c.RetryStatuses {
		texts = append(texts, fmt.Sprint(code))
	}
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ", ")
}
