package gateway

import (
	"bytes"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Each case has a Gateway with what its parameters come from, and all objects that it gets.
func TestRender(t *testing.T) {
	golden.Run(t, "testdata", func(t *testing.T, c *golden.Case) {
		text, ok := c.ReadOptional(t, "mesh.yaml")
		if !ok {
			text = []byte("sidecar: {image: example.com/proxy:1}")
		}
		cfg, err := config.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		in := read(t, c.Read(t, "in.yaml"))
		p, err := config.ReadParameters(cfg.Gateways.Defaults, in.class, in.gateway, in.configMap)
		if err != nil {
			t.Fatal(err)
		}
		install, err := NewInstall(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if install.IdentityAddress != "" {
			install.TrustBundle = "-----BEGIN CERTIFICATE-----\n"
		}
		var out bytes.Buffer
		for _, object := range Render(in.gateway, mesh.GatewayPorts(in.gateway.Spec.Listeners), p, install) {
			applied, err := configuration(object)
			if err != nil {
				t.Fatal(err)
			}
			text, err := yaml.Marshal(applied.Object)
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString("---\n")
			out.Write(text)
		}
		c.Check(t, "out.yaml", out.Bytes())
	})
}

// input is what a case begins with.
type input struct {
	gateway    *gatewayv1.Gateway
	class      *gatewayv1.GatewayClass
	configMaps []*corev1.ConfigMap
}

func (in input) configMap(namespace, name string) *corev1.ConfigMap {
	for _, object := range in.configMaps {
		if object.Namespace == namespace && object.Name == name {
			return object
		}
	}
	return nil
}

func read(t *testing.T, text []byte) input {
	t.Helper()
	in := input{gateway: &gatewayv1.Gateway{}, class: &gatewayv1.GatewayClass{}}
	for doc := range bytes.SplitSeq(text, []byte("\n---\n")) {
		var kind metav1.TypeMeta
		if err := yaml.Unmarshal(doc, &kind); err != nil {
			t.Fatal(err)
		}
		var object any
		switch kind.Kind {
		case "Gateway":
			object = in.gateway
		case "GatewayClass":
			object = in.class
		case "ConfigMap":
			in.configMaps = append(in.configMaps, &corev1.ConfigMap{})
			object = in.configMaps[len(in.configMaps)-1]
		default:
			t.Fatalf("kind %q: want Gateway, GatewayClass or ConfigMap", kind.Kind)
		}
		if err := yaml.UnmarshalStrict(doc, object); err != nil {
			t.Fatal(err)
		}
	}
	return in
}

// What changes often must not restart the pods.
func TestPodTemplateIsStable(t *testing.T) {
	cfg := config.Default()
	gateway := &gatewayv1.Gateway{}
	gateway.Namespace, gateway.Name, gateway.Spec.GatewayClassName = "shop", "web", "mizzen"
	template := func(ports []mesh.GatewayPort, bundle string) string {
		install, err := NewInstall(cfg)
		if err != nil {
			t.Fatal(err)
		}
		install.TrustBundle = bundle
		for _, object := range Render(gateway, ports, cfg.Gateways.Defaults, install) {
			if describe(object) == "Deployment shop/web-mizzen" {
				text, err := yaml.Marshal(object)
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
		}
		t.Fatal("no Deployment")
		return ""
	}
	before := template([]mesh.GatewayPort{{Port: 80}}, "old")
	if now := template([]mesh.GatewayPort{{Port: 80}, {Port: 443}}, "new"); now != before {
		t.Errorf("before:\n%s\nnow:\n%s", before, now)
	}
}
