package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"
)

func even(pods ...string) map[string]int {
	m := map[string]int{}
	for _, p := range pods {
		m[p] = 1000
	}
	return m
}

func TestVerdict(t *testing.T) {
	good := measurement{http: even("a", "b", "c"), grpc: even("a", "b", "c")}
	pinned := measurement{http: even("x", "y", "z"), grpc: even("x")}
	for _, tc := range []struct {
		name          string
		before, after measurement
		want          []string
	}{
		{"as promised", pinned, good, nil},
		{"balanced without a mesh", good, good, []string{"gRPC without the mesh"}},
		{"nothing changed", pinned, pinned, []string{"gRPC with the mesh"}},
		{"nothing measured", measurement{}, measurement{}, []string{"gRPC without", "HTTP with", "gRPC with"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := verdict(tc.before, tc.after)
			if len(got) != len(tc.want) {
				t.Fatalf("got %q, want %q", got, tc.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tc.want[i]) {
					t.Errorf("got %q, want %q", got[i], tc.want[i])
				}
			}
		})
	}
}

func TestOutside(t *testing.T) {
	if got := outsideVerdict(even("a", "b", "c")); got != nil {
		t.Errorf("as promised: %q", got)
	}
	if got := outsideVerdict(map[string]int{"a": 2990, "b": 10}); len(got) != 1 || !strings.HasPrefix(got[0], "gRPC from outside") {
		t.Errorf("on one pod: %q", got)
	}
	want := `
From outside of the cluster: one gRPC connection through a Gateway

  pod 1   25.0 %  ██████
  pod 2   25.0 %  ██████
  pod 3   50.0 %  ████████████
`
	if got := outsideReport(map[string]int{"a": 1, "b": 1, "c": 2}, false); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestReport(t *testing.T) {
	before := measurement{http: map[string]int{"x": 1, "y": 1, "z": 2}, grpc: map[string]int{"y": 3000}}
	after := measurement{http: even("a", "b", "c"), grpc: even("a", "b", "c")}
	got := report(before, after, []string{"mizzen-proxy", "native-tools"}, false)
	// The gRPC calls of "before" belong in the row of the pod that got them, which is the second.
	want := `
Share of the calls that each pod of native-tools-2 served

  protocol  pod  without the mesh                   with the mesh
  ────────  ───  ─────────────────────────────────  ─────────────────────────────────
  HTTP      1     25.0 %  ██████                     33.3 %  ████████
            2     25.0 %  ██████                     33.3 %  ████████
            3     50.0 %  ████████████               33.3 %  ████████
  ────────  ───  ─────────────────────────────────  ─────────────────────────────────
  gRPC      1      0.0 %                             33.3 %  ████████
            2    100.0 %  ████████████████████████   33.3 %  ████████
            3      0.0 %                             33.3 %  ████████

Containers of a native-tools pod now: mizzen-proxy, native-tools
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if strings.Contains(got, "\x1b") || !strings.Contains(report(before, after, nil, true), cyan) {
		t.Error("colour where none is wanted, or none where it is")
	}
}

func TestTerminal(t *testing.T) {
	var out bytes.Buffer
	term := &terminal{out: &out, pulse: 5 * time.Millisecond}
	fail := errors.New("no")
	err := term.run(t.Context(), step{"wait", func(_ context.Context, say func(string)) error {
		say("half")
		time.Sleep(30 * time.Millisecond)
		return fail
	}})
	if !errors.Is(err, fail) || !strings.Contains(out.String(), "wait · half\n") || !strings.Contains(out.String(), "✗") {
		t.Errorf("got %v, output %q", err, out.String())
	}
}
