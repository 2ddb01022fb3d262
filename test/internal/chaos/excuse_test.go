package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

var began = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return began.Add(time.Duration(ms) * time.Millisecond) }

// call is a failed one.
func call(c caller, from, to int) failure {
	return failure{caller: c, Failure: api.Failure{At: at(from), Elapsed: at(to).Sub(at(from)), Error: "broken"}}
}

var (
	toServer  = caller{name: "to the server", pod: "caller", servers: []string{"server"}}
	slowly    = caller{name: "slowly", pod: "caller", servers: []string{"server"}, onTheWay: 100 * time.Millisecond}
	toStrict  = caller{name: "to strict", pod: "caller", servers: []string{"strict"}}
	toEach    = caller{name: "to each", pod: "caller", servers: []string{"server"}, direct: true}
	overOne   = caller{name: "over one", pod: "caller", servers: []string{"server"}, held: true}
	fromOther = caller{name: "from the other", pod: "other", servers: []string{"server"}}
)

func TestJudge(t *testing.T) {
	killed := excuse{why: "in flight", of: answeredBy("server"), from: at(1000), until: at(1000), atOnce: true}
	for _, c := range []struct {
		name    string
		excuses []excuse
		failure failure
		want    bool
	}{
		{"in flight at the kill", []excuse{killed}, call(toServer, 980, 1010), true},
		{"begun at the kill", []excuse{killed}, call(toServer, 1000, 1001), true},
		{"begun while the end is on its way", []excuse{killed}, call(toServer, 1025, 1030), true},
		{"begun later", []excuse{killed}, call(toServer, 1026, 1030), false},
		{"begun later, on a busy machine", []excuse{killed}, call(slowly, 1100, 1130), true},
		{"begun much later, on a busy machine", []excuse{killed}, call(slowly, 1101, 1130), false},
		{"ended before the kill", []excuse{killed}, call(toServer, 900, 999), false},
		{"to another server", []excuse{killed}, call(toStrict, 980, 1010), false},
		{"no fault", nil, call(toServer, 980, 1010), false},
		{"an address of a pod", []excuse{{of: directlyTo("server"), from: at(0), until: at(5000)}}, call(toEach, 4000, 4010), true},
		{"an address of a Service", []excuse{{of: directlyTo("server"), from: at(0), until: at(5000)}}, call(toServer, 4000, 4010), false},
		{"a held connection", []excuse{{of: heldBy("server"), from: at(0), until: at(5000), most: 1}}, call(overOne, 4000, 4010), true},
		{"by another pod", []excuse{{of: madeBy("caller"), from: at(0), until: at(5000)}}, call(fromOther, 10, 20), false},
		{"until is a bound without more", []excuse{{of: madeBy("caller"), from: at(0), until: at(5000)}}, call(toServer, 5001, 5010), false},
		{"the second of two excuses", []excuse{{of: heldBy("server"), from: at(0), until: at(9000)}, killed}, call(toServer, 990, 1001), true},
	} {
		got := judge([]failure{c.failure}, []*event{{name: "fault", excuses: c.excuses}})
		if excused := got[0].fault != nil; excused != c.want {
			t.Errorf("%s: excused %t, want %t", c.name, excused, c.want)
		}
	}
}

// A bounded number of calls is excused, the first ones, and one that has another excuse does not count.
func TestJudgeBounded(t *testing.T) {
	events := []*event{
		{name: "bounded", excuses: []excuse{{of: answeredBy("server"), from: at(0), until: at(5000), most: 1}}},
		{name: "any", excuses: []excuse{{of: answeredBy("server"), from: at(0), until: at(100)}}},
	}
	var got []string
	for _, v := range judge([]failure{call(toServer, 3000, 3001), call(toServer, 2000, 2001), call(toServer, 50, 60)}, events) {
		name := "none"
		if v.fault != nil {
			name = v.fault.name
		}
		got = append(got, name)
	}
	if s := strings.Join(got, " "); s != "any bounded none" {
		t.Errorf("excused by %s, want any bounded none", s)
	}
}

func TestOnTheWay(t *testing.T) {
	for _, c := range []struct{ p99, work, want time.Duration }{
		{0, 0, 25 * time.Millisecond},
		{60 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond},
		{5 * time.Second, 20 * time.Millisecond, 250 * time.Millisecond},
	} {
		if got := onTheWay(c.p99, c.work); got != c.want {
			t.Errorf("p99 %s, work %s: %s, want %s", c.p99, c.work, got, c.want)
		}
	}
}

func TestNear(t *testing.T) {
	events := []*event{
		{name: "long over", begun: at(0), settled: at(1000)},
		{name: "just over", begun: at(2000), settled: at(4000)},
		{name: "going on", begun: at(9000), settled: at(11000)},
		{name: "not settled", begun: at(9500)},
		{name: "later", begun: at(20000), settled: at(21000)},
	}
	var got []string
	for _, e := range near(events, api.Failure{At: at(10000), Elapsed: time.Second}, 7*time.Second) {
		got = append(got, e.name)
	}
	if s := strings.Join(got, ", "); s != "just over, going on, not settled" {
		t.Errorf("near are %s", s)
	}
}
