package agent

import (
	"strings"
	"testing"
)

// What is in use counts, not what warms.
func TestReadAdmission(t *testing.T) {
	const listener = `{"listener": {"filter_chains": [
		{"name": "mtls", "metadata": {"filter_metadata": {"mizzen.dev/admission": {"ports": {"0": {"plain": true}}}}}},
		{"name": "refuse", "metadata": {"filter_metadata": {"mizzen.dev/admission": {"drainTime": "10s", "ports": {"0": {"plain": false, "allow": []}, "80": {"plain": true, "allow": null}}}}}}]}}`
	const other = `{"listener": {"filter_chains": [{"name": "refuse"}]}}`
	for name, c := range map[string]struct {
		dump                  string
		settled, known, plain bool
		wantErr               string
	}{
		"in use":                   {`{"configs": [{"name": "inbound", "active_state": ` + listener + `}]}`, true, true, true, ""},
		"another warms":            {`{"configs": [{"name": "inbound", "active_state": ` + listener + `, "warming_state": ` + other + `}]}`, false, true, true, ""},
		"it warms":                 {`{"configs": [{"name": "inbound", "warming_state": ` + listener + `}]}`, false, false, false, ""},
		"an older control plane":   {`{"configs": [{"name": "inbound", "active_state": ` + other + `}]}`, true, false, false, ""},
		"another listener":         {`{"configs": [{"name": "outbound", "active_state": ` + listener + `}]}`, false, false, false, ""},
		"none":                     {`{}`, false, false, false, ""},
		"no JSON":                  {`nothing`, false, false, false, "/config_dump: "},
		"what this one can't read": {`{"configs": [{"name": "inbound", "active_state": ` + strings.ReplaceAll(listener, `"80"`, `"many"`) + `}]}`, false, false, false, "the inbound listener's mizzen.dev/admission: "},
	} {
		t.Run(name, func(t *testing.T) {
			a, settled, err := readAdmission(strings.NewReader(c.dump))
			if c.wantErr != "" {
				if err == nil || !strings.HasPrefix(err.Error(), c.wantErr) {
					t.Errorf("error %v, want %s", err, c.wantErr)
				}
				return
			}
			if err != nil || settled != c.settled || (a != nil) != c.known {
				t.Fatalf("%+v, settled %t, %v", a, settled, err)
			}
			if c.known && (a.Admits(80, "") != c.plain || a.Admits(81, "") || a.Admits(81, "spiffe://cluster.local/ns/shop/sa/web") || !a.Admits(80, "spiffe://cluster.local/ns/shop/sa/web")) {
				t.Errorf("%+v", a)
			}
		})
	}
}
