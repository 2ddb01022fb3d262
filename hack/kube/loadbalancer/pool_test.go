package loadbalancer

import (
	"net/netip"
	"testing"
)

func TestNewPool(t *testing.T) {
	for addresses, want := range map[string]bool{
		"10.131.192.0/24": true,
		"10.131.192.0/29": true,
		"10.131.192.0/30": false,
		"10.131.192.1/24": false,
		"fd00::/64":       false,
	} {
		if _, err := NewPool(netip.MustParsePrefix(addresses)); (err == nil) != want {
			t.Errorf("%s: %v", addresses, err)
		}
	}
}

func TestPool(t *testing.T) {
	p, err := NewPool(netip.MustParsePrefix("10.0.0.0/29"))
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct{ owner, requests, release, want string }{
		{owner: "a", want: "10.0.0.1"},
		{owner: "b", want: "10.0.0.2"},
		{owner: "a", want: "10.0.0.1"},
		{owner: "c", release: "a", want: "10.0.0.3"}, // not the address that was just released
		{owner: "d", want: "10.0.0.1"},
		{owner: "e", want: ""}, // the lower half is full
		{owner: "e", release: "b", want: "10.0.0.2"},
		{owner: "f", requests: "10.0.0.6", want: "10.0.0.6"},
		{owner: "f", requests: "10.0.0.6", want: "10.0.0.6"},
		{owner: "f", requests: "10.0.0.5", want: "10.0.0.5"}, // another one: the first is free again
		{owner: "g", requests: "10.0.0.6", want: "10.0.0.6"},
		{owner: "h", requests: "10.0.0.6", want: ""},
		{owner: "h", requests: "10.0.0.7", want: ""},
		{owner: "h", requests: "10.0.0.0", want: ""},
		{owner: "h", requests: "10.0.0.8", want: ""},
		{owner: "h", requests: "fd00::1", want: ""},
		{owner: "g", requests: "10.0.0.9", want: ""},
		{owner: "g", want: "10.0.0.6"}, // what it cannot have does not cost it what it has
		{owner: "h", requests: "10.0.0.6", release: "g", want: "10.0.0.6"},
	} {
		p.Release(step.release)
		var requested netip.Addr
		if step.requests != "" {
			requested = netip.MustParseAddr(step.requests)
		}
		got, err := p.Assign(step.owner, requested)
		if step.want == "" && err == nil || step.want != "" && (err != nil || got.String() != step.want) {
			t.Errorf("step %d: %s got %s, %v; want %q", i, step.owner, got, err, step.want)
		}
		if has, ok := p.Of(step.owner); step.want != "" && (!ok || has != got) {
			t.Errorf("step %d: %s has %s", i, step.owner, has)
		}
	}
	if _, ok := p.Of("nobody"); ok {
		t.Error("nobody has an address")
	}
}
