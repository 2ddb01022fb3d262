package config

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMTLSOf(t *testing.T) {
	for name, c := range map[string]struct {
		on          Object
		annotations map[string]string
		want        MTLS
		wrong       []string
	}{
		"nothing":          {on: OnPod, annotations: map[string]string{"example.com/mtls": "strict"}},
		"pod":              {on: OnPod, annotations: map[string]string{AnnotationMTLS: "strict"}, want: MTLS{Mode: Strict}},
		"namespace":        {on: OnNamespace, annotations: map[string]string{AnnotationMTLS: "permissive"}, want: MTLS{Mode: Permissive}},
		"unknown mode":     {on: OnNamespace, annotations: map[string]string{AnnotationMTLS: "STRICT"}, wrong: []string{AnnotationMTLS}},
		"empty mode":       {on: OnPod, annotations: map[string]string{AnnotationMTLS: ""}, wrong: []string{AnnotationMTLS}},
		"ports":            {on: OnPod, annotations: map[string]string{AnnotationMTLSPorts: "80=strict, 90=permissive"}, want: MTLS{Ports: map[uint16]MTLSMode{80: Strict, 90: Permissive}}},
		"of a namespace":   {on: OnNamespace, annotations: map[string]string{AnnotationMTLSPorts: "80=strict"}, want: MTLS{Ports: map[uint16]MTLSMode{80: Strict}}},
		"on the wrong one": {on: OnService, annotations: map[string]string{AnnotationMTLSPorts: "80=strict"}},
		"no port":          {on: OnPod, annotations: map[string]string{AnnotationMTLSPorts: ""}, wrong: []string{AnnotationMTLSPorts}},
		"port 0":           {on: OnPod, annotations: map[string]string{AnnotationMTLSPorts: "0=strict"}, wrong: []string{AnnotationMTLSPorts}},
		"port twice":       {on: OnPod, annotations: map[string]string{AnnotationMTLSPorts: "80=strict,80=strict"}, wrong: []string{AnnotationMTLSPorts}},
		"port too high":    {on: OnPod, annotations: map[string]string{AnnotationMTLSPorts: "65536=strict"}, wrong: []string{AnnotationMTLSPorts}},
		"port alone":       {on: OnPod, annotations: map[string]string{AnnotationMTLSPorts: "80"}, wrong: []string{AnnotationMTLSPorts}},
		"one good, one bad": {
			on: OnPod, annotations: map[string]string{AnnotationMTLS: "strict", AnnotationMTLSPorts: "80=on"},
			want: MTLS{Mode: Strict}, wrong: []string{AnnotationMTLSPorts},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, errs := MTLSOf(c.on, c.annotations)
			var wrong []string
			for _, e := range errs {
				wrong = append(wrong, e.Name)
			}
			if diff := cmp.Diff(c.want, got); diff != "" || !slices.Equal(wrong, c.wrong) {
				t.Errorf("refused %v, want %v; -want +got\n%s", wrong, c.wrong, diff)
			}
		})
	}
}

// Whatever an annotation holds, it is taken as a whole or refused as a whole.
func FuzzMTLSOf(f *testing.F) {
	for _, value := range []string{"strict", "80=strict,90=permissive", "=", "80=strict,", " 1=strict", "80=strict=x", "+80=strict"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, errs := MTLSOf(OnPod, map[string]string{AnnotationMTLS: value, AnnotationMTLSPorts: value})
		taken := 0
		if got.Mode != "" {
			taken++
		}
		if len(got.Ports) > 0 {
			taken++
		}
		if taken+len(errs) != 2 {
			t.Errorf("%q: %+v, refused %v", value, got, errs)
		}
		for port, mode := range got.Ports {
			if port == 0 || !validMTLSMode(string(mode)) {
				t.Errorf("%q: %d=%s", value, port, mode)
			}
		}
	})
}

func TestMTLSOfTheMesh(t *testing.T) {
	for mode, ok := range map[string]bool{"": true, "mtls: {mode: permissive}": true, "mtls: {mode: strict}": true, "mtls: {mode: on}": false,
		"{identity: {enabled: false}, mtls: {mode: strict}}": false, "{identity: {enabled: false}}": true} {
		if m, err := Parse([]byte(mode)); (err == nil) != ok || ok && m.MTLS.On() == strings.Contains(mode, "enabled: false") {
			t.Errorf("%s: %+v, %v", mode, m, err)
		}
	}
}

func TestMTLSOver(t *testing.T) {
	ports := map[uint16]MTLSMode{80: Permissive}
	namespace := MTLS{Mode: Strict, Ports: ports, ForwardCert: []uint16{8080}}
	for name, c := range map[string]struct{ pod, want MTLS }{
		"says nothing":  {MTLS{}, namespace},
		"a mode":        {MTLS{Mode: Permissive}, MTLS{Mode: Permissive, ForwardCert: []uint16{8080}}},
		"ports":         {MTLS{Ports: map[uint16]MTLSMode{90: Strict}}, MTLS{Mode: Strict, Ports: map[uint16]MTLSMode{90: Strict}, ForwardCert: []uint16{8080}}},
		"whom it tells": {MTLS{ForwardCert: []uint16{90}}, MTLS{Mode: Strict, Ports: ports, ForwardCert: []uint16{90}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.pod.Over(namespace); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
