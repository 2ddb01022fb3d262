package main

import (
	"bytes"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

func TestCommandLine(t *testing.T) {
	pod := map[string]string{
		"POD_NAME": "cart-1", "POD_NAMESPACE": "shop", "POD_UID": "0c5a", "SERVICE_ACCOUNT": "cart", "POD_IPS": "10.1.2.3",
	}
	for _, tt := range []struct {
		args   string
		env    map[string]string
		code   int
		stdout string
		stderr string
	}{
		{"version", nil, 0, version.Version, ""},
		{"", nil, 0, "Available Commands", ""},
		{"run --help", nil, 0, "--drain-timeout", ""},
		{"capture --help", nil, 0, "--exclude-outbound-cidrs", ""},
		{"sail", nil, 2, "", `unknown command "sail"`},
		{"capture --nope", nil, 2, "", "unknown flag: --nope"},
		{"capture now", nil, 2, "", "now"},
		{"capture --proxy-uid=0", nil, 2, "", `--proxy-uid: "0": want a user id, 1 to 4294967295`},
		{"capture --proxy-uid=", nil, 2, "", `--proxy-uid: "": want a user id`},
		{"capture --inbound-port=70000", nil, 2, "", `--inbound-port: "70000": want a port number, 1 to 65535`},
		{"capture --outbound-port=x", nil, 2, "", `--outbound-port: "x": want a port number`},
		{"capture --exclude-inbound-ports=80,x", nil, 2, "", `--exclude-inbound-ports: "x": want a port number`},
		{"capture --exclude-outbound-ports=-1", nil, 2, "", `--exclude-outbound-ports: "-1": want a port number`},
		{"capture --exclude-outbound-cidrs=10.0.0.0/40", nil, 2, "", `--exclude-outbound-cidrs: "10.0.0.0/40": want a CIDR`},
		{"capture --dry-run", nil, 0, capture.Rules(capture.Default(), capture.Full).String(), ""},
		{"capture --dry-run --exclude-outbound-ports=25", nil, 0, "tcp dport 25 return", ""},
		{"run", nil, 2, "", "environment variable POD_NAME is not set"},
		{"run", pod, 2, "", `--control-plane: "": want <host>:<port>`},
		{"run --control-plane=a:1 --log-level=loud", pod, 2, "", `--log-level: "loud": want one of trace`},
		{"run --control-plane=a:1 --config-scope=mesh", pod, 2, "", `--config-scope: "mesh": want one of all, namespace, demand`},
		{"run --control-plane=a:1 --identity-address=a", pod, 2, "", `--identity-address: "a": want <host>:<port>`},
		{"run --control-plane=a:1 --identity-address=a:2", pod, 2, "", "environment variable MIZZEN_TRUST_BUNDLE is not set"},
		{"run --control-plane=a:1 --capture-by-cni --exclude-inbound-ports=x", pod, 2, "", `--exclude-inbound-ports: "x": want a port number`},
		{"run --gateway --control-plane=a:1 --await-capture", pod, 2, "", `--await-capture: "true": not with --gateway`},
		{"run --gateway --control-plane=a:1 --capture-by-cni", pod, 2, "", `--capture-by-cni: "true": not with --gateway`},
		{"run --gateway --control-plane=a:1 --config-scope=all", pod, 2, "", `--config-scope: "all": not with --gateway`},
		{"run --gateway --control-plane=a:1 --exclude-inbound-ports=80", pod, 2, "", `--exclude-inbound-ports: "80": not with --gateway`},
		{"run --gateway --control-plane=a:1 --drain-delay=2h", pod, 2, "", "--drain-delay: 2h0m0s: want 0s to 1h"},
		{"run --gateway --control-plane=a:1 --max-connections=0", pod, 2, "", "--max-connections: 0: want 1 to"},
		{"run --gateway --control-plane=a:1 --log-level=loud", with(pod, "MIZZEN_MEMORY_LIMIT", "1Gi"), 2, "", `environment variable MIZZEN_MEMORY_LIMIT: "1Gi": want bytes`},
		{"run --control-plane=a:1 --drain-delay=1s", pod, 2, "", `--drain-delay: "1s": only with --gateway`},
		{"run --control-plane=a:1 --max-connections=10", pod, 2, "", `--max-connections: "10": only with --gateway`},
		{"run --concurrency=many", pod, 2, "", `invalid argument "many" for "--concurrency"`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			var stdout, stderr bytes.Buffer
			code := execute(strings.Fields(tt.args), &stdout, &stderr)
			if code != tt.code || !strings.Contains(stdout.String(), tt.stdout) || !strings.Contains(stderr.String(), tt.stderr) {
				t.Errorf("exit code %d, want %d\nstdout: %s\nstderr: %s", code, tt.code, &stdout, &stderr)
			}
		})
	}
}

func with(env map[string]string, name, value string) map[string]string {
	env = maps.Clone(env)
	env[name] = value
	return env
}

func TestExitCode(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want int
	}{
		{fmt.Errorf("some: %w", &agent.ExitError{Code: 139}), 139},
		{usageError{fmt.Errorf("flag")}, 2},
		{fmt.Errorf("other"), 1},
	} {
		if got := exitCode(tt.err); got != tt.want {
			t.Errorf("%v: exit code %d, want %d", tt.err, got, tt.want)
		}
	}
}
