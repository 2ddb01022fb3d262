package install

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mizzen-mesh/mizzen/internal/cni/conflist"
)

const (
	list   = `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge"}]}`
	single = `{"cniVersion":"1.0.0","name":"n","type":"ptp"}`
	broken = `{"plugins":[`
)

func newConfig(t *testing.T, files map[string]string) *Config {
	t.Helper()
	c := &Config{Dir: t.TempDir(), Entry: conflist.Entry{Socket: "/run/x.sock"}, Log: slog.New(slog.DiscardHandler)}
	for name, content := range files {
		write(t, c, name, content)
	}
	return c
}

func write(t *testing.T, c *Config, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.Dir, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// state says of each file whether it is as written ("same"), or has the entry ("entry").
func (c *Config) state(t *testing.T, written map[string]string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(c.Dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // just replaced
		}
		if err != nil {
			t.Fatal(err)
		}
		switch original, ok := written[strings.TrimSuffix(e.Name(), replacedSuffix)]; {
		case strings.Contains(string(b), conflist.Type):
			out[e.Name()] = "entry"
		case ok && string(b) == original:
			out[e.Name()] = "same"
		default:
			out[e.Name()] = "without"
		}
		if info, err := e.Info(); err == nil && info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v", e.Name(), info.Mode())
		}
	}
	return out
}

func TestEnsureAndRemove(t *testing.T) {
	for _, tt := range []struct {
		name    string
		files   map[string]string
		ensured map[string]string
		removed map[string]string
		wantErr string
	}{
		{
			name:    "one list",
			files:   map[string]string{"10-a.conflist": list},
			ensured: map[string]string{"10-a.conflist": "entry"}, removed: map[string]string{"10-a.conflist": "without"},
		},
		{
			name:    "the first of several, as the runtime takes it",
			files:   map[string]string{"10-b.conflist": list, "05-a.conflist": list, "README.md": "x"},
			ensured: map[string]string{"05-a.conflist": "entry", "10-b.conflist": "same", "README.md": "same"},
			removed: map[string]string{"05-a.conflist": "without", "10-b.conflist": "same", "README.md": "same"},
		},
		{
			name:    "a single plugin becomes a list",
			files:   map[string]string{"10-a.conf": single, "20-b.conflist": list},
			ensured: map[string]string{"10-a.conflist": "entry", "10-a.conf.mizzen-cni": "same", "20-b.conflist": "same"},
			removed: map[string]string{"10-a.conf": "same", "20-b.conflist": "same"},
		},
		{
			name:    "a broken one is left alone",
			files:   map[string]string{"05-a.conflist": broken, "10-b.conflist": list},
			ensured: map[string]string{"05-a.conflist": "same", "10-b.conflist": "entry"},
			removed: map[string]string{"05-a.conflist": "same", "10-b.conflist": "without"},
		},
		{
			name: "only a broken one", files: map[string]string{"05-a.conflist": broken}, wantErr: "no usable CNI configuration",
			ensured: map[string]string{"05-a.conflist": "same"}, removed: map[string]string{"05-a.conflist": "same"},
		},
		{name: "none yet", wantErr: "no usable CNI configuration", ensured: map[string]string{}, removed: map[string]string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newConfig(t, tt.files)
			for range 2 { // the second time changes nothing
				if err := c.Ensure(); (err == nil) != (tt.wantErr == "") || err != nil && !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				if diff := cmp.Diff(tt.ensured, c.state(t, tt.files)); diff != "" {
					t.Fatalf("-want +got\n%s", diff)
				}
			}
			if err := c.Remove(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.removed, c.state(t, tt.files)); diff != "" {
				t.Errorf("removed: -want +got\n%s", diff)
			}
		})
	}
}

// Another plugin's installer comes later, writes its file anew, or puts one in front.
func TestWatch(t *testing.T) {
	c := newConfig(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Watch(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	files := map[string]string{}
	await := func(want map[string]string) {
		t.Helper()
		var got map[string]string
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
			if got = c.state(t, files); maps.Equal(want, got) && c.Err() == nil {
				return
			}
		}
		t.Fatalf("%v, want %v; %v", got, want, c.Err())
	}
	step := func(name, content string, want map[string]string) {
		t.Helper()
		files[name] = content
		write(t, c, name, content)
		await(want)
	}
	step("10-a.conflist", list, map[string]string{"10-a.conflist": "entry"})
	step("10-a.conflist", `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"macvlan"}]}`, map[string]string{"10-a.conflist": "entry"})
	step("05-first.conf", single, map[string]string{"05-first.conflist": "entry", "05-first.conf.mizzen-cni": "same", "10-a.conflist": "without"})
	step("05-first.conf", `{"type":"ipvlan"}`, map[string]string{"05-first.conflist": "entry", "05-first.conf.mizzen-cni": "same", "10-a.conflist": "without"})
}

func TestBinary(t *testing.T) {
	source, dir := filepath.Join(t.TempDir(), "plugin"), t.TempDir()
	for _, content := range []string{"one", "two", "two"} {
		if err := os.WriteFile(source, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Binary(source, dir); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(dir, conflist.Type))
		if err != nil || string(b) != content {
			t.Errorf("%q, %v, want %q", b, err, content)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := Binary(filepath.Join(dir, "none"), dir); err == nil {
		t.Error("no error without a binary")
	}
}
