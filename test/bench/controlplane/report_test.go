package main

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestFit(t *testing.T) {
	var cells []cell
	for _, s := range []int{100, 1000} {
		for _, n := range []int{100, 500, 2000} {
			c := cell{Services: s, Proxies: n}
			c.Fresh.Bytes = 3 * float64(s) * math.Sqrt(float64(n))
			cells = append(cells, c)
		}
	}
	bytes := func(c cell) float64 { return c.Fresh.Bytes }
	l := fit(cells, bytes)
	for name, got := range map[string][2]float64{"k": {l.k, 3}, "S": {l.s, 1}, "N": {l.n, 0.5}, "off": {l.off, 1}} {
		if math.Abs(got[0]-got[1]) > 1e-6 {
			t.Errorf("%s: %v, want %v", name, got[0], got[1])
		}
	}
	if l := fit(cells[:1], bytes); !math.IsNaN(l.s) || !math.IsNaN(l.n) {
		t.Errorf("one cell has a law: %+v", l)
	}
}

func TestBetween(t *testing.T) {
	const text = "a\n<!-- x begin -->\nold\n<!-- x end -->\nb <!-- y begin --><!-- y end -->\n"
	got, err := between(text, "x", "new\n")
	if err != nil || strings.Contains(got, "old") || !strings.Contains(got, "new\n<!-- x end -->\nb <!-- y") {
		t.Errorf("got %q, error %v", got, err)
	}
	if again, err := between(got, "x", "new\n"); err != nil || again != got {
		t.Errorf("the second time: %q, error %v", again, err)
	}
	if _, err := between(text, "z", ""); err == nil || !strings.Contains(err.Error(), "z begin") {
		t.Errorf("error %v, want one that names the marker", err)
	}
}

func TestQuantiles(t *testing.T) {
	var d []time.Duration
	for i := 100; i > 0; i-- {
		d = append(d, time.Duration(i)*time.Millisecond)
	}
	if got, want := quantilesOf(d), (quantiles{P50: 51, P99: 100, Max: 100}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := quantilesOf(nil); got != (quantiles{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestUses(t *testing.T) {
	b := &bench{world: &world{}, used: 10}
	for i := range 1000 {
		b.services = append(b.services, service{namespace: namespace(i)})
	}
	own := 0
	for _, s := range b.uses(3) {
		if s.namespace == namespace(3) {
			own++
		}
	}
	if got := len(b.uses(3)); got != 10 || own != 7 {
		t.Errorf("%d Services, %d of its own namespace; want 10 and 7", got, own)
	}
}

func TestChanges(t *testing.T) {
	c := cell{Change: change{Count: 2, Holders: 10, Messages: map[string]int64{"EDS": 8}}, NewService: newService{Latency: quantiles{P50: 55, P99: 60}, CPU: 0.002}}
	for name, test := range map[string]struct {
		firstUse *quantiles
		bytes    float64
		want     string
	}{
		"on demand": {&quantiles{P50: 3, P99: 5}, 0, "0 ms, 0 ms, 4, 5, 55 ms, 60 ms, 0, 2, 3 ms, 5 ms"},
		"preloaded": {nil, 1234, "0 ms, 0 ms, 4, 5, 55 ms, 60 ms, 1234, 2, –, –"},
	} {
		t.Run(name, func(t *testing.T) {
			c.FirstUse, c.NewService.Bytes = test.firstUse, test.bytes
			if got := strings.Join(c.changes(), ", "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
			if got := c.compared().markdown(); !strings.Contains(got, num(test.bytes)+" bytes if it does not call it") {
				t.Errorf("no bytes of a new Service in\n%s", got)
			}
		})
	}
}
