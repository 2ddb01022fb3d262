package envoy

import (
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A route has a retry policy only if it says other than its virtual host: Envoy takes one or the other.
func TestRetriesOfRoutes(t *testing.T) {
	const none = -1 // the route has no policy
	for name, test := range map[string]struct {
		calls    mesh.CallPolicy
		on       string
		tries    int
		priority corev3.RoutingPriority
	}{
		"nothing said":         {tries: none},
		"a timeout only":       {calls: mesh.CallPolicy{Timeout: time.Second}, tries: none},
		"of each try":          {calls: mesh.CallPolicy{BackendTimeout: time.Second}, on: safeRetries, tries: 4},
		"taken back":           {calls: mesh.CallPolicy{RetryAttempts: new(uint32(0))}},
		"taken back, each try": {calls: mesh.CallPolicy{RetryAttempts: new(uint32(0)), BackendTimeout: time.Second}},
		"another number":       {calls: mesh.CallPolicy{RetryAttempts: new(uint32(1))}, on: safeRetries, tries: 1},
		"another back-off":     {calls: mesh.CallPolicy{RetryBackoff: time.Second}, on: safeRetries, tries: 4},
		"opted in": {
			calls: mesh.CallPolicy{RetryOn: []string{"5xx"}, RetryAttempts: new(uint32(2))},
			on:    safeRetries + ",5xx", tries: 2, priority: corev3.RoutingPriority_HIGH,
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := configtest.WithoutIdentity()
			rule := mesh.Implicit(serviceAt("10.0.0.1", 80, mesh.HTTP), 80)
			rule.Action.Calls = test.calls
			rc := translation{key: mesh.EndpointsKey{Port: 80, Family: mesh.IPv4}, cfg: cfg}.routeConfiguration("r", []mesh.Rule{rule})
			host := rc.VirtualHosts[0]
			if p := host.RetryPolicy; p.GetRetryOn() != safeRetries || p.GetNumRetries().GetValue() != 4 {
				t.Errorf("virtual host: %v", p)
			}
			for _, r := range host.Routes {
				p := r.GetRoute().GetRetryPolicy()
				if p == nil && test.tries == none {
					continue
				}
				if p == nil || p.RetryOn != test.on || int(p.GetNumRetries().GetValue()) != test.tries {
					t.Errorf("got %v, want %d tries on %q", p, test.tries, test.on)
				}
				if got := r.GetRoute().Priority; got != test.priority {
					t.Errorf("priority %v, want %v", got, test.priority)
				}
			}
		})
	}
}

func TestNoRetriesAtAll(t *testing.T) {
	cfg := configtest.WithoutIdentity()
	cfg.Traffic.Retry.Attempts = new(int32(0))
	rule := mesh.Implicit(serviceAt("10.0.0.1", 80, mesh.HTTP), 80)
	rc := translation{key: mesh.EndpointsKey{Port: 80, Family: mesh.IPv4}, cfg: cfg}.routeConfiguration("r", []mesh.Rule{rule})
	if host := rc.VirtualHosts[0]; host.RetryPolicy != nil || host.Routes[0].GetRoute().RetryPolicy != nil {
		t.Errorf("got %v", host)
	}
}
