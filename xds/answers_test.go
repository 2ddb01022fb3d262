package xds_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// What the sidecar of a server answers says so, too, and where it is asked for a line with Envoy's detail is written.
func TestInboundAnswers(t *testing.T) {
	a := newCA(t)
	app := named(t, "app")
	pod := startCalled(t, a, idCart, judged(func(port uint16) []mesh.Policy {
		return []mesh.Policy{{Name: "shop/deny", Deny: true, Rules: []mesh.CallRule{{Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{{Methods: []string{"PUT"}}}}}}}
	}), app.address)
	for _, tt := range []struct {
		method, path string
		grpc         bool
		reason       string
	}{
		{"GET", "/", false, ""}, {"PUT", "/", false, "denied"}, {"PUT", "/a.B/C", true, "denied"}, {"GET", "/", true, ""},
	} {
		for _, h2 := range []bool{false, true} {
			c := callerOf(t, a, pod, idClient, h2)
			var headers []string
			if tt.grpc {
				headers = []string{"Content-Type", "application/grpc"}
			}
			_, _, h := c.do(tt.method, tt.path, headers...)
			got := h.Header.Get(envoy.AnswerHeader)
			if tt.reason == "" && got != "" || tt.reason != "" && !strings.HasSuffix(got, fmt.Sprintf("details=%q", tt.reason)) {
				t.Errorf("%s %s, HTTP/2 %t: %q", tt.method, tt.path, h2, got)
			}
		}
	}
	eventually(t, "a line for each", func() bool {
		return strings.Count(pod.envoy.log.String(), `"message":"answered by the sidecar"`) == 4
	})
	for _, part := range []string{`"side":"inbound"`, `details=\"denied\"`, `"details":"rbac_access_denied_matched_policy[shop/deny]"`, `"path":"/a.B/C"`} {
		if !strings.Contains(pod.envoy.log.String(), part) {
			t.Errorf("no %s in the log", part)
		}
	}

	// An application that is away.
	away := startCalled(t, a, idCart, func(port uint16) mesh.Inbound {
		return mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{port}}
	}, reserved(t))
	if status, body, h := callerOf(t, a, away, idClient, false).do("GET", "/"); status != 503 || !strings.HasPrefix(body, "mizzen: no connection to ") ||
		!strings.HasSuffix(h.Header.Get(envoy.AnswerHeader), `details="connect-failed"`) {
		t.Errorf("%d %q %v", status, body, h)
	}
}

// The document has each reason in its order.
func TestAnswersAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/answers.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, r := range envoy.Reasons {
		var sides []string
		for _, s := range r.Sides {
			sides = append(sides, string(s))
		}
		if sides == nil {
			sides = []string{"both"}
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", r.Name, strings.Join(sides, ", "), r.Error, r.Doc)
	}
	if !strings.Contains(string(text), want.String()) {
		t.Errorf("docs/answers.md has another table than\n%s", want.String())
	}
}
