package envoytest

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	const limit = `"overload_manager": {"resource_monitors": [{"name": "envoy.resource_monitors.global_downstream_max_connections",
		"typed_config": {"@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
		"max_active_downstream_connections": 1}}]}`
	for _, tt := range []struct{ name, bootstrap, warning, wantErr string }{
		{"fine", `{` + limit + `}`, "", ""},
		{"deprecated field", `{` + limit + `, "static_resources": {"clusters": [{"name": "a", "http2_protocol_options": {}}]}}`, "deprecated", ""},
		{"unknown field", `{"nope": 1}`, "", "has unknown fields"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			warnings, err := check(Path(t), t.TempDir(), []byte(tt.bootstrap))
			if (err != nil) != (tt.wantErr != "") || (err != nil && !strings.Contains(err.Error(), tt.wantErr)) {
				t.Fatalf("error %v, want %q", err, tt.wantErr)
			}
			if all := strings.Join(warnings, ""); (all != "") != (tt.warning != "") || !strings.Contains(all, tt.warning) {
				t.Errorf("warnings %q, want %q", all, tt.warning)
			}
		})
	}
}
