package config

import (
	"slices"
	"strings"
	"testing"
)

func TestKeyMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		on                  Object
		labels, annotations map[string]string
		want                []string // what each says, in part
	}{
		"none":            {OnNamespace, map[string]string{"app": "x", LabelInjection: "enabled"}, map[string]string{AnnotationMTLS: "strict", "other.dev/mtsl": "x"}, nil},
		"misspelt":        {OnNamespace, nil, map[string]string{"mizzen.dev/mtsl": "strict"}, []string{"annotation mizzen.dev/mtsl: \"strict\": not a known annotation for a namespace, so it has no effect; want mizzen.dev/mtls"}},
		"label key":       {OnNamespace, map[string]string{"mizzen.dev/inject": "enabled"}, nil, []string{"label mizzen.dev/inject: \"enabled\": not a known label for a namespace, so it has no effect; want mizzen.dev/injection"}},
		"revision":        {OnNamespace, map[string]string{LabelRevision: "canary"}, nil, nil},
		"bad revision":    {OnNamespace, map[string]string{LabelRevision: "Next.1"}, nil, []string{`label mizzen.dev/revision: "Next.1": not allowed; want a DNS label of at most 32 characters, such as canary`}},
		"pod's revision":  {OnPod, map[string]string{LabelRevision: "canary"}, nil, []string{"want it on a namespace"}},
		"label value":     {OnNamespace, map[string]string{LabelInjection: "true"}, nil, []string{`label mizzen.dev/injection: "true": not allowed; want "enabled" or "disabled"`}},
		"value":           {OnNamespace, nil, map[string]string{AnnotationMTLS: "on"}, []string{"want permissive or strict"}},
		"another kind":    {OnNamespace, nil, map[string]string{LabelInjection: "enabled"}, []string{"want a label"}},
		"another object":  {OnNamespace, nil, map[string]string{AnnotationTimeout: "5s"}, []string{"want it on a service"}},
		"nothing like it": {OnNamespace, nil, map[string]string{"mizzen.dev/completely-else": ""}, []string{"not a known annotation for a namespace, so it has no effect"}},
		"of a pod":        {OnPod, map[string]string{LabelInjection: "yes"}, map[string]string{AnnotationMTLSPorts: "80", AnnotationLogLevel: "loud", AnnotationCPURequest: "1", "mizzen.dev/drain": "5s"}, []string{LabelInjection, "mizzen.dev/drain", AnnotationMTLSPorts, AnnotationLogLevel}},
	} {
		t.Run(name, func(t *testing.T) {
			got := KeyMistakes(c.on, c.labels, c.annotations)
			if !slices.EqualFunc(got, c.want, func(m Mistake, want string) bool { return strings.Contains(m.Error(), want) }) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestMisplaced(t *testing.T) {
	got := Misplaced(map[string]string{LabelInjection: "enabled", "app": "x"}, map[string]string{AnnotationMTLS: "strict", "other.dev/x": ""})
	if len(got) != 2 || got[0].Name != LabelInjection || got[1].Name != AnnotationMTLS || !strings.Contains(got[0].Error(), "pod template") {
		t.Errorf("%v", got)
	}
}
