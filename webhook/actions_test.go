package webhook

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

// The agent has types of its own for what the webhook writes with those of the Kubernetes API.
func TestAgentReadsActions(t *testing.T) {
	for name, written := range map[string]action{
		"HTTP": {HTTPGet: &corev1.HTTPGetAction{
			Path: "/a", Port: intstr.FromInt32(8080), Host: "h", Scheme: corev1.URISchemeHTTPS,
			HTTPHeaders: []corev1.HTTPHeader{{Name: "A", Value: "b"}}, Protocol: new(corev1.HTTPProtocolHTTP2),
		}, TimeoutSeconds: 1},
		"TCP":  {TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(5432), Host: "h"}, TimeoutSeconds: 1},
		"gRPC": {GRPC: &corev1.GRPCAction{Port: 9090, Service: new("s"), Mode: new(corev1.GRPCProbeModeTLS)}, TimeoutSeconds: 1},
	} {
		t.Run(name, func(t *testing.T) {
			for _, field := range unset(reflect.ValueOf(written), "") {
				if strings.Count(field, ".") > 1 { // there is one of the actions themselves
					t.Errorf("%s is not set, so this test does not see whether the agent knows it", field)
				}
			}
			text, err := actions{"/path": written}.marshal()
			if err != nil {
				t.Fatal(err)
			}
			read, err := appprobe.Unmarshal(text)
			if err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(read)
			if err != nil || string(again) != text {
				t.Errorf("the agent reads %s (%v), want %s", again, err, text)
			}
		})
	}
	if appprobe.SchemeHTTPS != string(corev1.URISchemeHTTPS) || appprobe.ProtocolHTTP2 != string(corev1.HTTPProtocolHTTP2) || appprobe.ModeTLS != string(corev1.GRPCProbeModeTLS) {
		t.Error("the agent's names of values are not the Kubernetes API's")
	}
}

// unset returns the fields that have no value.
func unset(v reflect.Value, path string) (fields []string) {
	switch {
	case v.IsZero():
		return []string{path}
	case v.Kind() == reflect.Pointer:
		return unset(v.Elem(), path)
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[intstr.IntOrString]():
		for i := range v.NumField() {
			fields = append(fields, unset(v.Field(i), path+"."+v.Type().Field(i).Name)...)
		}
	}
	return fields
}
