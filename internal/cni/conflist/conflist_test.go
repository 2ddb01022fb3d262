package conflist

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var entry = Entry{Socket: "/run/x.sock"}

const ours1 = `{"type":"mizzen-cni","socket":"/run/x.sock"}`

func TestWith(t *testing.T) {
	for _, tt := range []struct {
		name, in, want, wantErr string
		unchanged               bool
	}{
		{
			name: "list",
			in:   `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"},{"type":"portmap"}]}`,
			want: `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"},{"type":"portmap"},` + ours1 + `]}`,
		},
		{
			name: "single plugin",
			in:   `{"cniVersion":"0.3.1","name":"n","type":"ptp","ipam":{"type":"host-local"}}`,
			want: `{"cniVersion":"0.3.1","name":"n","plugins":[{"cniVersion":"0.3.1","name":"n","type":"ptp","ipam":{"type":"host-local"}},` + ours1 + `]}`,
		},
		{
			name: "large numbers and unknown fields stay",
			in:   `{"x":{"mtu":12345678901234567890},"plugins":[{"type":"bridge","n":12345678901234567890}]}`,
			want: `{"x":{"mtu":12345678901234567890},"plugins":[{"type":"bridge","n":12345678901234567890},` + ours1 + `]}`,
		},
		{
			name:      "there already",
			in:        `{"plugins":[{"type":"bridge"},{"socket": "/run/x.sock", "type": "mizzen-cni"}]}`,
			unchanged: true,
		},
		{
			name:      "there already, and another behind it",
			in:        `{"plugins":[{"type":"bridge"},` + ours1 + `,{"type":"tuning"}]}`,
			unchanged: true,
		},
		{
			name: "of another version",
			in:   `{"plugins":[{"type":"bridge"},{"type":"mizzen-cni","socket":"/old"}]}`,
			want: `{"plugins":[{"type":"bridge"},` + ours1 + `]}`,
		},
		{
			name: "before the one that connects",
			in:   `{"plugins":[` + ours1 + `,{"type":"bridge"}]}`,
			want: `{"plugins":[{"type":"bridge"},` + ours1 + `]}`,
		},
		{
			name: "twice",
			in:   `{"plugins":[{"type":"bridge"},` + ours1 + `,` + ours1 + `]}`,
			want: `{"plugins":[{"type":"bridge"},` + ours1 + `]}`,
		},
		{name: "empty list", in: `{"plugins":[]}`, wantErr: "no plugin that connects pods"},
		{name: "nothing but the entry", in: `{"plugins":[` + ours1 + `]}`, wantErr: "no plugin that connects pods"},
		{name: "plugins are no list", in: `{"plugins":{}}`, wantErr: "plugins:"},
		{name: "no configuration", in: `{"a":1}`, wantErr: `neither "plugins" nor "type"`},
		{name: "type is no text", in: `{"type":1}`, wantErr: `neither "plugins" nor "type"`},
		{name: "half written", in: `{"plugins":[{"type":"bri`, wantErr: "unexpected end"},
		{name: "empty", in: ``, wantErr: "unexpected end"},
		{name: "null", in: `null`, wantErr: "want an object"},
		{name: "no object", in: `[]`, wantErr: "cannot unmarshal"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, changed, err := With([]byte(tt.in), entry)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if tt.unchanged {
				if changed || string(out) != tt.in {
					t.Errorf("changed %v: %s", changed, out)
				}
				return
			}
			if !changed {
				t.Error("not changed")
			}
			equal(t, tt.want, out)
			if again, changed, err := With(out, entry); err != nil || changed || string(again) != string(out) {
				t.Errorf("a second time: changed %v, %v\n%s", changed, err, again)
			}
			back, _, err := Without(out)
			if err != nil || strings.Contains(string(back), Type) {
				t.Errorf("without: %v\n%s", err, back)
			}
		})
	}
}

func TestWithout(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"in the middle", `{"name":"n","plugins":[{"type":"bridge"},` + ours1 + `,{"type":"tuning"}]}`, `{"name":"n","plugins":[{"type":"bridge"},{"type":"tuning"}]}`},
		{"of another version", `{"plugins":[{"type":"bridge"},{"type":"mizzen-cni","x":1}]}`, `{"plugins":[{"type":"bridge"}]}`},
		{"none", `{"plugins":[{"type":"bridge"}]}`, ""},
		{"single plugin", `{"type":"bridge"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, changed, err := Without([]byte(tt.in))
			if err != nil || changed != (tt.want != "") {
				t.Fatalf("changed %v, %v", changed, err)
			}
			if !changed {
				tt.want = tt.in
			}
			equal(t, tt.want, out)
		})
	}
}

// equal compares without looking at the order of fields; numbers are compared as they are written.
func equal(t *testing.T, want string, got []byte) {
	t.Helper()
	decode := func(s string) (v any) {
		d := json.NewDecoder(strings.NewReader(s))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%v: %s", err, s)
		}
		return v
	}
	if diff := cmp.Diff(decode(want), decode(string(got))); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}
