package config

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// withParameters returns a class and a Gateway with parameters of these texts; an empty text stands for no reference.
func withParameters(class, own string) (*gatewayv1.GatewayClass, *gatewayv1.Gateway, FindConfigMap) {
	c, g := &gatewayv1.GatewayClass{}, &gatewayv1.Gateway{}
	c.Name, g.Namespace, g.Name = "mizzen", "shop", "web"
	if class != "" {
		c.Spec.ParametersRef = &gatewayv1.ParametersReference{Kind: "ConfigMap", Namespace: new(gatewayv1.Namespace("infra")), Name: "c"}
	}
	if own != "" {
		g.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{ParametersRef: &gatewayv1.LocalParametersReference{Kind: "ConfigMap", Name: "g"}}
	}
	return c, g, func(namespace, name string) *corev1.ConfigMap {
		text := map[string]string{"infra/c": class, "shop/g": own}[namespace+"/"+name]
		if text == "" {
			return nil
		}
		return &corev1.ConfigMap{Data: map[string]string{GatewayParametersKey: text}}
	}
}

func TestReadParameters(t *testing.T) {
	for name, tt := range map[string]struct {
		class, own string
		change     func(*GatewayParameters)
	}{
		"defaults": {"", "", func(*GatewayParameters) {}},
		"class":    {"replicas: 5", "", func(p *GatewayParameters) { p.Replicas = new(int32(5)) }},
		"the Gateway wins": {"{replicas: 5, serviceType: NodePort, nodeSelector: {a: b}}", "{replicas: 3, nodeSelector: {}, drainDelay: 0s}", func(p *GatewayParameters) {
			p.Replicas, p.ServiceType, p.NodeSelector, p.DrainDelay = new(int32(3)), corev1.ServiceTypeNodePort, map[string]string{}, &metav1.Duration{}
		}},
		"replicas turn autoscaling off": {"autoscaling: {maxReplicas: 9}", "replicas: 3", func(p *GatewayParameters) { p.Replicas = new(int32(3)) }},
		"autoscaling stays": {"autoscaling: {maxReplicas: 9}", "logLevel: info", func(p *GatewayParameters) {
			p.Autoscaling, p.LogLevel = &GatewayAutoscaling{MaxReplicas: new(int32(9))}, "info"
		}},
		"the Gateway says no": {"{proxyProtocol: true, trustedHops: 2, forwardClientCertificate: true}", "{proxyProtocol: false, trustedHops: 0}", func(p *GatewayParameters) {
			p.ForwardClientCertificate = new(true)
		}},
		"durations": {"", "drainTimeout: 1h", func(p *GatewayParameters) { p.DrainTimeout = &metav1.Duration{Duration: time.Hour} }},
	} {
		t.Run(name, func(t *testing.T) {
			want := Default().Gateways.Defaults
			tt.change(&want)
			class, gateway, find := withParameters(tt.class, tt.own)
			got, err := ReadParameters(Default().Gateways.Defaults, class, gateway, find)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestReadParametersRefuses(t *testing.T) {
	const by = "Gateway shop/web: spec.infrastructure.parametersRef: ConfigMap shop/g: mizzen.yaml: "
	for text, want := range map[string]string{
		"replicas: many":                                by + `replicas: Invalid value: "many": want a whole number, found string`,
		"replica: 3":                                    by + `replica: Invalid value: 3: unknown field; docs/reference.md lists the fields`,
		"replicas: -1":                                  by + `replicas: Invalid value: -1: want a whole number from 0 to 1000`,
		"tolerations: [{key: a, op: x}]":                by + `tolerations[0].op: Invalid value: "x": unknown field; docs/reference.md lists the fields`,
		"serviceType: External":                         by + `serviceType: Unsupported value: "External": supported values: "ClusterIP", "NodePort", "LoadBalancer"`,
		"serviceType: 3":                                by + `serviceType: Invalid value: 3: want a string, found number`,
		"externalTrafficPolicy: local":                  by + `externalTrafficPolicy: Unsupported value: "local": supported values: "Cluster", "Local"`,
		"autoscaling: {minReplicas: 3}":                 by + `autoscaling.maxReplicas: Invalid value: null: want a whole number from 1 to 1000`,
		"autoscaling: {minReplicas: 3, maxReplicas: 2}": by + `autoscaling.minReplicas: Invalid value: 3: want a whole number from 1 to 2`,
		"drainTimeout: 1.5s":                            by + `drainTimeout: Invalid value: "1.5s": want whole seconds from 0s to 1h, such as 30s`,
		"resources: {requests: {memory: 128m}}":         by + `resources.requests[memory]: Invalid value: "128m": want a memory quantity of at least 1Mi, such as 128Mi or 1Gi`,
		"trustedHops: 17":                               by + `trustedHops: Invalid value: 17: want a whole number from 0 to 16`,
		"proxyProtocol: optional":                       by + `proxyProtocol: Invalid value: "optional": want true or false, found string`,
		"forwardClientCertificate: 1":                   by + `forwardClientCertificate: Invalid value: 1: want true or false, found number`,
		"serviceName: Edge":                             by + `serviceName: Invalid value: "Edge": a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')`,
		"logLevel: loud":                                by + `logLevel: Unsupported value: "loud": supported values: "trace", "debug", "info", "warning", "error", "critical", "off"`,
	} {
		class, gateway, find := withParameters("", text)
		if _, err := ReadParameters(Default().Gateways.Defaults, class, gateway, find); err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
	for want, change := range map[string]func(*gatewayv1.GatewayClass, *gatewayv1.Gateway){
		`GatewayClass mizzen: spec.parametersRef.namespace: "": want the namespace of the ConfigMap`: func(c *gatewayv1.GatewayClass, _ *gatewayv1.Gateway) { c.Spec.ParametersRef.Namespace = nil },
		`GatewayClass mizzen: spec.parametersRef.kind: "Secret": want ConfigMap`:                     func(c *gatewayv1.GatewayClass, _ *gatewayv1.Gateway) { c.Spec.ParametersRef.Kind = "Secret" },
		`Gateway shop/web: spec.infrastructure.parametersRef.group: "apps": want "", the group of ConfigMap`: func(_ *gatewayv1.GatewayClass, g *gatewayv1.Gateway) {
			g.Spec.Infrastructure.ParametersRef.Group = "apps"
		},
		`Gateway shop/web: spec.infrastructure.parametersRef.name: "x": want a ConfigMap of namespace shop; there is none with this name`: func(_ *gatewayv1.GatewayClass, g *gatewayv1.Gateway) { g.Spec.Infrastructure.ParametersRef.Name = "x" },
	} {
		class, gateway, find := withParameters("replicas: 1", "replicas: 2")
		change(class, gateway)
		if _, err := ReadParameters(Default().Gateways.Defaults, class, gateway, find); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	if _, err := parseGatewayParameters(&corev1.ConfigMap{Data: map[string]string{"other.yaml": ""}}); err == nil || err.Error() != `key "other.yaml": want no key but mizzen.yaml` {
		t.Error(err)
	}
}
