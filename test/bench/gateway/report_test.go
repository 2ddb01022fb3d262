package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestQuantile(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(100-i)) // 100 to 1
	}
	for _, tt := range []struct {
		name  string
		times []time.Duration
		q     float64
		want  time.Duration
	}{
		{"none", nil, 0.5, 0},
		{"one", []time.Duration{7}, 0.99, 7},
		{"middle", hundred, 0.5, 50},
		{"p99", hundred, 0.99, 99},
		{"all", hundred, 1, 100},
		{"least", hundred, 0, 1},
	} {
		if got := quantile(tt.times, tt.q); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestShow(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", 1234 * time.Microsecond: "1.2 ms", 250 * time.Millisecond: "250 ms", 1500 * time.Millisecond: "1.50 s", 90 * time.Second: "90.0 s",
	} {
		if got := show(d); got != want {
			t.Errorf("%d: %q, want %q", d, got, want)
		}
	}
}

func TestWriteFigures(t *testing.T) {
	var out strings.Builder
	err := writeFigures(&out, "attached", []figure{
		most("after the last apply", 3*time.Second, 2*time.Second), atMost("writes", 300, 300), none("failed", 1, " of 9"), plain("in all", "5"),
	})
	const want = `
| attached | measured | wanted |
| --- | --- | --- |
| after the last apply | 3.00 s, missed | ≤ 2.00 s |
| writes | 300 | ≤ 300 |
| failed | 1 of 9, missed | 0 |
| in all | 5 |  |
`
	if err != nil || out.String() != want {
		t.Errorf("error %v, got\n%s\nwant\n%s", err, &out, want)
	}
}

func TestProbeFigures(t *testing.T) {
	times := make([]time.Duration, 0, 300)
	for i := range 300 {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	got := probeFigures(times, map[int]int{200: 300, 404: 12, 503: 2, 0: 1})
	for i, want := range []figure{
		{"all 300 routes: the first 200 after, p50", "149 ms", "≤ 100 ms", true},
		{"all 300 routes: p99", "296 ms", "≤ 300 ms", false},
		{"the first 100: the first 200 after, p50", "49.0 ms", "≤ 100 ms", false},
		{"the first 100: p99", "98.0 ms", "≤ 300 ms", false},
		{"the last 100: the first 200 after, p50", "249 ms", "≤ 100 ms", true},
		{"the last 100: p99", "298 ms", "≤ 300 ms", false},
		{"answers but 404 and 200", "3 (none: 1, 200: 300, 404: 12, 503: 2)", "0", true},
	} {
		if got[i] != want {
			t.Errorf("figure %d: %+v, want %+v", i, got[i], want)
		}
	}
}

func TestTally(t *testing.T) {
	why := errors.New("status 503")
	a, b := &steady{name: "HTTP/1.1"}, &steady{name: "gRPC"}
	a.note(nil)
	before := steadies{a, b}.soFar()
	b.note(why)
	b.note(nil)
	got := steadies{a, b}.soFar().minus(before)
	if got.calls != 2 || got.failed != 1 || !errors.Is(got.example, why) || !strings.HasPrefix(got.example.Error(), "gRPC: ") {
		t.Errorf("%+v, want 2 calls of which one of gRPC failed", got)
	}
	if got := got.minus(got); got.example != nil || got.calls != 0 {
		t.Errorf("%+v, want nothing", got)
	}
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "attached,probe,change,scale,traffic"},
		{"-only probe,scale", "probe,scale"},
		{"-only probes", `"probes": want some of attached, probe, change, scale, traffic`},
		{"-probe 100", "-probe: 100: want 200 or more"},
		{"-churn 1ms", "-churn: 1ms: want 1s or more"},
		{"-duration 1ms", "-duration: 1ms: want 200ms or more"},
		{"probe", `["probe"]: want flags alone`},
	} {
		o, err := readOptions(strings.Fields(tt.args))
		got := o.only.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.args, got, tt.want)
		}
	}
}
