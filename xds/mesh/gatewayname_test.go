package mesh

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func TestGatewayName(t *testing.T) {
	long := strings.Repeat("a", 253)
	seen := map[string]string{}
	for _, tt := range []struct{ gateway, class, want string }{
		{"web", "mizzen", "web-mizzen"},
		{"web", "mizzen.internal", "web-mizzen-internal-e4795fd3"},
		{"web", "mizzen-internal", "web-mizzen-internal"},
		{"1st", "mizzen", "gw-1st-mizzen-ee77067c"},
		{"my.web", "mizzen", "my-web-mizzen-f2159d28"},
		{strings.Repeat("a", 56), "mizzen", strings.Repeat("a", 56) + "-mizzen"},
		{strings.Repeat("a", 57), "mizzen", ""},
		{long, "mizzen", ""},
		{long, long, ""},
	} {
		got := GatewayName(tt.gateway, tt.class)
		if tt.want != "" && got != tt.want {
			t.Errorf("%s of class %s: %s, want %s", tt.gateway, tt.class, got, tt.want)
		}
		if msgs := validation.IsDNS1035Label(got); len(msgs) > 0 {
			t.Errorf("%s of class %s: %s is no name of a Service: %v", tt.gateway, tt.class, got, msgs)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%s of class %s: %s is also the name of %s", tt.gateway, tt.class, got, other)
		}
		seen[got] = tt.gateway
		if msgs := validation.IsValidLabelValue(GatewayLabel(tt.gateway)); len(msgs) > 0 {
			t.Errorf("%s: %s is no value of a label: %v", tt.gateway, GatewayLabel(tt.gateway), msgs)
		}
	}
}

func TestGatewayAddresses(t *testing.T) {
	gateway := &gatewayv1.Gateway{}
	gateway.Namespace, gateway.Name = "shop", "web"
	gateway.Spec.Addresses = []gatewayv1.GatewaySpecAddress{
		{Value: "192.0.2.1"}, {Type: new(gatewayv1.IPAddressType)}, {Type: new(gatewayv1.IPAddressType), Value: "2001:db8::1"},
	}
	got, err := GatewayAddresses(gateway)
	if err != nil || len(got) != 2 || got[0].String() != "192.0.2.1" || got[1].String() != "2001:db8::1" {
		t.Errorf("%v, %v", got, err)
	}
	gateway.Spec.Addresses = []gatewayv1.GatewaySpecAddress{{Type: new(gatewayv1.HostnameAddressType), Value: "a.example"}, {Value: "a.example"}}
	_, err = GatewayAddresses(gateway)
	want := `Gateway shop/web: spec.addresses[0].type: "Hostname": want IPAddress` + "\n" +
		`Gateway shop/web: spec.addresses[1].value: "a.example": want an IP address such as 192.0.2.1 or 2001:db8::1`
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
