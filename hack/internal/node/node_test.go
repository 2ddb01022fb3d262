package node

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestParseRoutes(t *testing.T) {
	got, err := parseRoutes(`[{"dst":"default","gateway":"192.0.2.1"},{"dst":"10.131.0.0/16"},{"dst":"10.1.1.1"},{"dst":"fd00::/64"}]`)
	if err != nil || fmt.Sprint(got) != "[10.131.0.0/16 10.1.1.1/32 fd00::/64]" {
		t.Fatal(got, err)
	}
	if _, err := parseRoutes("oops"); err == nil {
		t.Error("no error")
	}
}

func TestClaim(t *testing.T) {
	file := filepath.Join(t.TempDir(), "7")
	alive, gone := t.TempDir(), filepath.Join(t.TempDir(), "gone")
	if err := os.Mkdir(filepath.Join(alive, ".cluster"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		owner string
		want  bool
	}{{gone, true}, {gone, true}, {alive, true /* the claim of a deleted checkout */}, {alive, true}, {gone, false}} {
		if got, err := claim(file, step.owner); err != nil || got != step.want {
			t.Fatalf("%s: %v, %v", step.owner, got, err)
		}
	}
}
