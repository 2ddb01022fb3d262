package config

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	wantCallTimeout   = `a Gateway API duration such as 500ms, 10s or 1m30s, or "0s" for none`
	wantRetryOn       = `"none", or, separated by commas, 5xx, gateway-error, reset, status codes from 400 to 599, and the gRPC codes cancelled, deadline-exceeded, internal, resource-exhausted, unavailable`
	wantRetryAttempts = "a whole number from 0 to 10"
	wantRetryBackoff  = "a Gateway API duration of at least 1ms, such as 50ms"
)

// RetryConditions are the words of AnnotationRetryOn, which come from Envoy.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/router_filter#x-envoy-retry-on
var RetryConditions = []string{
	"5xx", "gateway-error", "reset",
	"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}

// Calls has the settings for calls from the annotations of a Service or a route. A nil field is not set, so the next
// more general object decides.
type Calls struct {
	// Timeout of a whole call, and of one try; 0 means none.
	Timeout, BackendTimeout *time.Duration
	// RetryOn are RetryConditions and status codes; empty, but not nil, means none.
	RetryOn []string
	// RetryAttempts is the number of retries.
	RetryAttempts *int32
	RetryBackoff  *time.Duration
}

// Or fills unset fields of c from a more general object.
func (c Calls) Or(general Calls) Calls {
	or(&c.Timeout, general.Timeout)
	or(&c.BackendTimeout, general.BackendTimeout)
	or(&c.RetryAttempts, general.RetryAttempts)
	or(&c.RetryBackoff, general.RetryBackoff)
	if c.RetryOn == nil {
		c.RetryOn = general.RetryOn
	}
	return c
}

func or[T any](p **T, general *T) {
	if *p == nil {
		*p = general
	}
}

// KeyError is a mistake in a label or annotation.
type KeyError struct {
	Kind        KeyKind
	Name, Value string
	// Want describes the allowed values.
	Want string
}

func (e KeyError) Error() string {
	return fmt.Sprintf("%s %s: %q: want %s", e.Kind, e.Name, e.Value, e.Want)
}

// CallsOf reads the annotations of a Service, or of a route with rules of these names. Bad annotations are not in the
// results but in errs, in the order of the keys. An unknown key with our prefix is an error, too.
func CallsOf(on Object, annotations map[string]string, ruleNames []string) (whole Calls, byRule map[string]Calls, errs []KeyError) {
	byRule = map[string]Calls{}
	for _, name := range sortedKeys(annotations) {
		if !ours(name) {
			continue
		}
		value := annotations[name]
		base, rule, perRule := strings.Cut(strings.TrimPrefix(name, Group+"/"), ".")
		key, err := findKey(on, Annotation, Group+"/"+base)
		calls := byRule[rule]
		switch {
		case err != nil:
			errs = append(errs, KeyError{Annotation, name, value, known(on)})
		case key.setCalls == nil && !perRule: // ServicePolicyOf reads it
		case key.setCalls == nil:
			errs = append(errs, KeyError{Annotation, name, value, "this key on the Service, without a dot"})
		case perRule && (on != OnRoute || !slices.Contains(ruleNames, rule)):
			errs = append(errs, KeyError{Annotation, name, value, "the name of a rule of this route after the dot" + listed(ruleNames)})
		case !perRule && !key.setCalls(&whole, value), perRule && !key.setCalls(&calls, value):
			errs = append(errs, KeyError{Annotation, name, value, key.Values})
		case perRule:
			byRule[rule] = calls
		}
	}
	return whole, byRule, errs
}

// KeysIn returns the annotations with our prefix, sorted.
func KeysIn(annotations map[string]string) []string {
	return slices.DeleteFunc(sortedKeys(annotations), func(name string) bool { return !ours(name) })
}

func known(on Object) string {
	var names []string
	for _, key := range Keys {
		if slices.Contains(key.On, on) {
			names = append(names, key.Name)
		}
	}
	return "one of the keys " + strings.Join(names, ", ")
}

func listed(names []string) string {
	if len(names) == 0 {
		return ", but no rule has a name"
	}
	return ": " + strings.Join(names, ", ")
}

// durationPattern is the pattern of GEP-2257, which is stricter than Go's:
// https://gateway-api.sigs.k8s.io/geps/gep-2257/
var durationPattern = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

// ParseDuration reads a Gateway API duration.
func ParseDuration(text string) (time.Duration, bool) {
	if !durationPattern.MatchString(text) {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

func setCallTimeout(field func(*Calls) **time.Duration) func(*Calls, string) bool {
	return func(c *Calls, value string) bool {
		d, ok := ParseDuration(value)
		if ok {
			*field(c) = &d
		}
		return ok
	}
}

func setRetryOn(c *Calls, value string) bool {
	if value == "none" {
		c.RetryOn = []string{}
		return true
	}
	items := splitList(value)
	if len(items) == 0 {
		return false
	}
	for _, item := range items {
		code, err := strconv.ParseUint(item, 10, 16)
		if isCode := err == nil && code >= 400 && code <= 599; !isCode && !slices.Contains(RetryConditions, item) {
			return false
		}
	}
	c.RetryOn = items
	return true
}

func setRetryAttempts(c *Calls, value string) bool {
	n, err := strconv.ParseUint(value, 10, 31)
	if err != nil || n > maxRetries {
		return false
	}
	c.RetryAttempts = new(int32(n))
	return true
}

func setRetryBackoff(c *Calls, value string) bool {
	d, ok := ParseDuration(value)
	if !ok || d < time.Millisecond {
		return false
	}
	c.RetryBackoff = &d
	return true
}
