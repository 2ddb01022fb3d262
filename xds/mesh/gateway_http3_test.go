package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// HTTP/3 is served where a listener asks for it and can have it.
func TestHTTP3(t *testing.T) {
	https := httpsListener("a")
	tls := https
	tls.Protocol = gatewayv1.TLSProtocolType
	on := func(l gatewayv1.Listener) gatewayv1.Listener { return withOption(l, "mizzen.dev/http3", "true") }
	tcp, udp := GatewayPort{443, 64955, false, "https"}, GatewayPort{443, 64955, true, ""}
	for _, c := range []struct {
		name     string
		listener gatewayv1.Listener
		served   bool
		ports    []GatewayPort
		want     string // the message of a listener that is refused
	}{
		{"not asked for", https, false, []GatewayPort{tcp}, ""},
		{"off", withOption(https, "mizzen.dev/http3", "false"), false, []GatewayPort{tcp}, ""},
		{"on", on(https), true, []GatewayPort{tcp, udp}, ""},
		{"with TLS 1.3", withOption(on(https), "mizzen.dev/tls-max-version", "1.3"), true, []GatewayPort{tcp, udp}, ""},
		{
			"another value", withOption(https, "mizzen.dev/http3", "yes"), false, []GatewayPort{tcp},
			`spec.listeners[0].tls.options[mizzen.dev/http3]: "yes": want true or false`,
		},
		{
			"another protocol", on(tls), false, []GatewayPort{{443, 64955, false, ""}},
			`spec.listeners[0].tls.options[mizzen.dev/http3]: "true": want false at a listener of protocol TLS: HTTP/3 is for HTTPS`,
		},
		{
			"without TLS 1.3", withOption(on(https), "mizzen.dev/tls-max-version", "1.2"), false, []GatewayPort{tcp, udp},
			`spec.listeners[0].tls.options[mizzen.dev/tls-max-version]: "1.2": want 1.3, without which there is no HTTP/3, or no mizzen.dev/http3`,
		},
		{
			"misspelt", withOption(https, "mizzen.dev/http-3", "true"), false, []GatewayPort{tcp},
			`spec.listeners[0].tls.options[mizzen.dev/http-3]: "true": want mizzen.dev/tls-min-version, mizzen.dev/tls-max-version, mizzen.dev/tls-cipher-suites, mizzen.dev/http3 as the key`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := gatewayInputs(c.listener)
			in.Secrets = map[Key]*corev1.Secret{{"edge", "shop"}: certificate(t, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), time.Hour)}
			gw, statuses, _ := BuildGateway(in)
			accepted := conditionOf(t, statuses, "a", gatewayv1.ListenerConditionAccepted)
			if accepted.True != (c.want == "") || c.want != "" && accepted.Message != c.want {
				t.Errorf("Accepted is %t: %s; want %q", accepted.True, accepted.Message, c.want)
			}
			served := false
			for _, s := range gw.Sockets {
				served = served || s.Listeners[0].TLS.HTTP3
			}
			if served != c.served || !slices.Equal(gw.Ports, c.ports) {
				t.Errorf("served: %t, want %t; ports %v, want %v", served, c.served, gw.Ports, c.ports)
			}
		})
	}
}
