package chaos

import (
	"slices"
	"strings"
	"testing"
)

func take(seed uint64, n int, names ...string) []step {
	var out []step
	for s := range plan(seed, names) {
		if len(out) == n {
			break
		}
		out = append(out, s)
	}
	return out
}

func TestPlan(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	first := take(7, 40, names...)
	if again := take(7, 40, "d", "b", "a", "c"); !slices.Equal(first, again) {
		t.Errorf("the same seed gives %v, and then %v", first, again)
	}
	if other := take(8, 40, names...); slices.Equal(first, other) {
		t.Error("another seed gives the same plan")
	}
	for i := range first {
		if i > 0 && first[i].fault == first[i-1].fault {
			t.Errorf("step %d: %s comes twice in a row", i, first[i].fault)
		}
		if i%4 == 0 {
			var round []string
			for _, s := range first[i : i+4] {
				round = append(round, s.fault)
			}
			if slices.Sort(round); !slices.Equal(round, names) {
				t.Errorf("the round at step %d has %v, want each of %v once", i, round, names)
			}
		}
	}
	if got := take(1, 3, "a"); len(got) != 3 || got[0].draw == got[1].draw {
		t.Errorf("of one fault: %v, want it three times, with different draws", got)
	}
	if got := take(1, 3); len(got) != 0 {
		t.Errorf("of no fault: %v", got)
	}
	if got := first[0].rand().Uint64(); got != first[0].rand().Uint64() {
		t.Error("a step draws differently each time")
	}
}

func TestChoose(t *testing.T) {
	all := []fault{{name: "a"}, {name: "b"}, {name: "c"}}
	for _, c := range []struct {
		only []string
		want string
		err  string
	}{
		{nil, "a b c", ""},
		{[]string{"c", "a"}, "a c", ""},
		{[]string{"d"}, "", `fault "d": want some of a, b, c`},
		{[]string{"a", "a"}, "", `fault "a": want each once`},
	} {
		got, err := choose(all, c.only)
		if s := strings.Join(namesOf(got), " "); s != c.want || (err != nil || c.err != "") && (err == nil || err.Error() != c.err) {
			t.Errorf("%v: %q, %v, want %q, %q", c.only, s, err, c.want, c.err)
		}
	}
}
