package answers

import "testing"

func TestRename(t *testing.T) {
	const before = `envoy_mizzen_answers{proxy_status="mizzen-outbound; error=destination_unavailable; details=\"no-endpoint\"",cluster=`
	for line, want := range map[string]string{
		"envoy_cluster_x{a=\"b\"} 1\n":            "envoy_cluster_x{a=\"b\"} 1\n",
		before + "\"outbound/shop/cart/80\"} 7\n": `mizzen_answers_total{side="outbound",reason="no-endpoint",destination_namespace="shop",destination_service="cart",destination_port="80"} 7` + "\n",
		before + "\"\"} 1\n":                      `mizzen_answers_total{side="outbound",reason="no-endpoint",destination_namespace="",destination_service="",destination_port=""} 1` + "\n",
		`envoy_mizzen_answers{proxy_status="mizzen-inbound; details=\"redirect\"",cluster="inbound_http"} 2` + "\n": `mizzen_answers_total{side="inbound",reason="redirect",destination_namespace="",destination_service="",destination_port="",cluster="inbound_http"} 2` + "\n",
		before + "\"unresolved\"} 3\n":                                             `mizzen_answers_total{side="outbound",reason="no-endpoint",destination_namespace="",destination_service="",destination_port="",cluster="unresolved"} 3` + "\n",
		`envoy_mizzen_answers{proxy_status="a server's own",cluster="x"} 2` + "\n": "",
		"# TYPE envoy_mizzen_answers counter\n":                                    help,
	} {
		if got := string(Rename([]byte(line))); got != want {
			t.Errorf("%q: %q, want %q", line, got, want)
		}
	}
}
