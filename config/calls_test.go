package config

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestCallsOf(t *testing.T) {
	for name, c := range map[string]struct {
		on          Object
		annotations map[string]string
		want        Calls
		wantRule    Calls // of the rule "pay"
		wantErr     string
	}{
		"none":    {on: OnService},
		"others'": {on: OnService, annotations: map[string]string{"example.com/timeout": "x"}},
		"all": {on: OnService, annotations: map[string]string{
			AnnotationTimeout: "1m30s", AnnotationBackendTimeout: "0s", AnnotationRetryOn: "unavailable, 502",
			AnnotationRetryAttempts: "0", AnnotationRetryBackoff: "50ms",
		}, want: Calls{
			Timeout: new(90 * time.Second), BackendTimeout: new(time.Duration(0)), RetryOn: []string{"unavailable", "502"},
			RetryAttempts: new(int32(0)), RetryBackoff: new(50 * time.Millisecond),
		}},
		"retries taken back": {on: OnRoute, annotations: map[string]string{AnnotationRetryOn: "none"}, want: Calls{RetryOn: []string{}}},
		"rule":               {on: OnRoute, annotations: map[string]string{AnnotationTimeout + ".pay": "5s"}, wantRule: Calls{Timeout: new(5 * time.Second)}},
		"rule of a Service": {
			on: OnService, annotations: map[string]string{AnnotationTimeout + ".pay": "5s"},
			wantErr: `annotation mizzen.dev/timeout.pay: "5s": want the name of a rule of this route after the dot`,
		},
		"no such rule":   {on: OnRoute, annotations: map[string]string{AnnotationTimeout + ".nope": "5s"}, wantErr: `: "5s": want the name of a rule of this route after the dot: pay`},
		"no duration":    {on: OnRoute, annotations: map[string]string{AnnotationTimeout: "1.5s"}, wantErr: `annotation mizzen.dev/timeout: "1.5s": want ` + wantCallTimeout},
		"no back-off":    {on: OnRoute, annotations: map[string]string{AnnotationRetryBackoff: "0s"}, wantErr: `"0s": want ` + wantRetryBackoff},
		"bad condition":  {on: OnRoute, annotations: map[string]string{AnnotationRetryOn: "5xx,always"}, wantErr: `"5xx,always": want ` + wantRetryOn},
		"bad status":     {on: OnRoute, annotations: map[string]string{AnnotationRetryOn: "200"}, wantErr: `"200": want ` + wantRetryOn},
		"empty":          {on: OnRoute, annotations: map[string]string{AnnotationRetryOn: ""}, wantErr: `"": want ` + wantRetryOn},
		"too many":       {on: OnRoute, annotations: map[string]string{AnnotationRetryAttempts: "11"}, wantErr: `"11": want ` + wantRetryAttempts},
		"typo":           {on: OnService, annotations: map[string]string{Group + "/time-out": "1s"}, wantErr: `"1s": want one of the keys mizzen.dev/timeout, `},
		"key of a pod":   {on: OnService, annotations: map[string]string{AnnotationLogLevel: "info"}, wantErr: "want one of the keys mizzen.dev/timeout, "},
		"bad, then good": {on: OnRoute, annotations: map[string]string{AnnotationTimeout: "1s", AnnotationRetryOn: "x"}, want: Calls{Timeout: new(time.Second)}, wantErr: wantRetryOn},
	} {
		t.Run(name, func(t *testing.T) {
			got, byRule, errs := CallsOf(c.on, c.annotations, []string{"pay"})
			if !reflect.DeepEqual(got, c.want) || !reflect.DeepEqual(byRule["pay"], c.wantRule) {
				t.Errorf("got %+v, rule %+v", got, byRule["pay"])
			}
			text := ""
			for _, e := range errs {
				text += e.Error()
			}
			if (text == "") != (c.wantErr == "") || !strings.Contains(text, c.wantErr) {
				t.Errorf("errors %q, want %q", text, c.wantErr)
			}
		})
	}
}

func TestCallsOr(t *testing.T) {
	special := Calls{Timeout: new(time.Second), RetryOn: []string{}}
	general := Calls{Timeout: new(time.Minute), RetryOn: []string{"5xx"}, RetryAttempts: new(int32(1))}
	want := Calls{Timeout: new(time.Second), RetryOn: []string{}, RetryAttempts: new(int32(1))}
	if got := special.Or(general); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// Whatever stands in the annotations of a Service or a route: what is refused is named, what is accepted is
// within its bounds.
func FuzzCallsAndPolicy(f *testing.F) {
	for _, key := range Keys {
		for _, value := range []string{"", "5", "1s", "-1s", "1e9", "ring-hash", "header:x", "cookie:x,1s", "unavailable,502", "8080=strict"} {
			f.Add(key.Name, value)
		}
	}
	f.Add(AnnotationTimeout+".pay", "1s")
	f.Add(Group+"/.", "")
	f.Fuzz(func(t *testing.T, name, value string) {
		annotations := map[string]string{name: value}
		named := func(errs []KeyError) {
			for _, e := range errs {
				if e.Name != name || e.Value != value || e.Want == "" {
					t.Errorf("%q: %q: %+v", name, value, e)
				}
			}
		}
		for _, on := range []Object{OnService, OnRoute} {
			calls, byRule, errs := CallsOf(on, annotations, []string{"pay"})
			named(errs)
			for _, c := range []Calls{calls, byRule["pay"]} {
				for _, d := range []*time.Duration{c.Timeout, c.BackendTimeout, c.RetryBackoff} {
					if d != nil && *d < 0 {
						t.Errorf("%q: %q is %v", name, value, *d)
					}
				}
				if n := c.RetryAttempts; n != nil && (*n < 0 || *n > 10) {
					t.Errorf("%q: %q is %d", name, value, *n)
				}
			}
		}
		_, errs := ServicePolicyOf(annotations)
		named(errs)
	})
}
