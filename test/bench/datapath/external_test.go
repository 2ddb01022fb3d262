//go:build !sidecarsalone

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestExternal(t *testing.T) {
	const good = `
name: peer
ports: [4140]
http: 127.0.0.1:4140
client:
- command: [/bin/control, "--to=${SERVER_IP}:${SERVER_HTTP}"]
  helper: true
- command: [/bin/proxy]
  environment: {UPSTREAM: "${SERVER_IP}:${SERVER_TCP}"}
server:
- command: [/bin/proxy]
`
	for _, tt := range []struct{ name, old, now, want string }{
		{"good", "", "", ""},
		{"no name", "name: peer", "", "name: missing"},
		{"a misspelt field", "ports:", "port:", `unknown field "port"`},
		{"no HTTP", "http: 127.0.0.1:4140", "", "http: missing"},
		{"no command", "command: [/bin/proxy]\n  env", "command: []\n  env", "client[1].command: missing"},
		{"helpers alone", "server:\n- command: [/bin/proxy]", "server:\n- {command: [/bin/x], helper: true}", "server: want a program that is no helper"},
		{"an unknown name", "${SERVER_TCP}", "${SERVER_UDP}", "${SERVER_UDP} is not known; want SERVER_IP, SERVER_HTTP or SERVER_TCP"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			external = nil
			t.Cleanup(func() { external = nil })
			file := filepath.Join(t.TempDir(), "pair.yaml")
			if err := os.WriteFile(file, []byte(strings.Replace(good, tt.old, tt.now, 1)), 0o600); err != nil {
				t.Fatal(err)
			}
			err := readExternal(file)
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) || external != nil {
					t.Fatalf("%v, want an error with %q", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			control, _ := external.Client[0].expanded()
			proxy, _ := external.Client[1].expanded()
			if want := "--to=10.88.0.2:8081"; control.Args[1] != want || !slices.Contains(proxy.Env, "UPSTREAM=10.88.0.2:9091") {
				t.Errorf("%v, %v", control.Args, proxy.Env[len(proxy.Env)-1])
			}
		})
	}
}
