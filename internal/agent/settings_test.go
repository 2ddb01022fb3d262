package agent

import (
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

func TestReadEnv(t *testing.T) {
	full := map[string]string{
		"POD_NAME": "cart-1", "POD_NAMESPACE": "shop", "POD_UID": "0c5a", "SERVICE_ACCOUNT": "cart",
		"NODE_NAME": "node-1", "POD_IPS": "10.1.2.3,fd00::3", "WORKLOAD": "Deployment/cart",
		"MIZZEN_TRUST_BUNDLE":   "roots",
		"MIZZEN_APP_PROBES_KEY": "k",
		"MIZZEN_APP_PROBES":     `{"/app-health/app/livez":{"tcpSocket":{"port":80}}}`,
	}
	for _, tt := range []struct{ name, variable, value, wantErr string }{
		{"complete", "", "", ""},
		{"no node name", "NODE_NAME", "", ""},
		{"no workload", "WORKLOAD", "", ""},
		{"no probes", "MIZZEN_APP_PROBES", "", ""},
		{"probes without a key", "MIZZEN_APP_PROBES_KEY", "", "environment variable MIZZEN_APP_PROBES_KEY is not set"},
		{"one address", "POD_IPS", "10.1.2.3", ""},
		{"no pod name", "POD_NAME", "", "environment variable POD_NAME is not set"},
		{"no addresses", "POD_IPS", "", "environment variable POD_IPS is not set"},
		{"bad address", "POD_IPS", "10.1.2", `POD_IPS: "10.1.2": want IP addresses`},
		{"empty address", "POD_IPS", "10.1.2.3,", `POD_IPS: "": want IP addresses`},
		{"bad probes", "MIZZEN_APP_PROBES", "{", "environment variable MIZZEN_APP_PROBES: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := Settings{Run: contract.Run{ConfigScope: fixed.ScopeDemand}}
			err := s.ReadEnv(func(name string) string {
				if name == tt.variable {
					return tt.value
				}
				return full[name]
			})
			checkError(t, err, tt.wantErr)
			if tt.name == "complete" && (s.Node.ID() != "shop/cart-1" || len(s.Node.IPs) != 2 || len(s.Probes) != 1 ||
				s.Node.Workload != "Deployment/cart" || s.TrustBundle != "roots" || s.ProbeKey != "k" || s.Node.ConfigScope != fixed.ScopeDemand) {
				t.Errorf("read %+v", s)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		name    string
		change  func(*Settings)
		wantErr string
	}{
		{"defaults", func(*Settings) {}, ""},
		{"IPv6 control plane", func(s *Settings) { s.ControlPlane = "[fd00::1]:15010" }, ""},
		{"no control plane", func(s *Settings) { s.ControlPlane = "" }, `--control-plane: "": want <host>:<port>`},
		{"no host", func(s *Settings) { s.ControlPlane = ":15010" }, `--control-plane: ":15010"`},
		{"identity", func(s *Settings) { s.IdentityAddress, s.TrustBundle = "host:15012", "roots" }, ""},
		{"identity without port", func(s *Settings) { s.IdentityAddress, s.TrustBundle = "host", "roots" }, `--identity-address: "host": want <host>:<port>`},
		{"identity without roots", func(s *Settings) { s.IdentityAddress = "host:15012" }, "environment variable MIZZEN_TRUST_BUNDLE is not set; --identity-address needs it"},
		{"no port", func(s *Settings) { s.ControlPlane = "host" }, `--control-plane: "host"`},
		{"port too high", func(s *Settings) { s.ControlPlane = "host:70000" }, `--control-plane: "host:70000"`},
		{"log level", func(s *Settings) { s.LogLevel = "loud" }, `--log-level: "loud": want one of trace, debug`},
		{"concurrency", func(s *Settings) { s.Concurrency = -1 }, `--concurrency: -1: want 0`},
		{"scope", func(s *Settings) { s.ConfigScope = fixed.ScopeAll }, ""},
		{"bad scope", func(s *Settings) { s.ConfigScope = "mesh" }, `--config-scope: "mesh": want one of all, namespace, demand`},
		{"drain delay", func(s *Settings) { s.DrainDelay = 2 * time.Hour }, `--drain-delay: 2h0m0s: want 0s to 1h`},
		{"no connections", func(s *Settings) { s.MaxConnections = 0 }, `--max-connections: 0: want 1 to 2147483647`},
		{"drain timeout", func(s *Settings) { s.DrainTimeout = -time.Second }, `--drain-timeout: -1s: want 0s to 1h`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := testSettings("host:15010", "10.1.2.3")
			tt.change(&s)
			checkError(t, s.Validate(), tt.wantErr)
		})
	}
}

func checkError(t *testing.T, err error, want string) {
	t.Helper()
	if (err != nil) != (want != "") || (err != nil && !strings.Contains(err.Error(), want)) {
		t.Errorf("error %v, want %q", err, want)
	}
}
