package layout

import (
	"net/netip"
	"testing"
)

func TestNamesDifferByCheckoutAndFitTheKernel(t *testing.T) {
	a, b := New("/src/one"), New("/src/two/")
	if a.ID == b.ID {
		t.Fatalf("both checkouts got ID %s", a.ID)
	}
	if New("/src/one/") != a {
		t.Error("a trailing slash changes the layout")
	}
	for _, link := range []string{a.HostLink(), a.NodeLink()} {
		if len(link) > 15 {
			t.Errorf("link name %q has %d bytes, the kernel takes 15", link, len(link))
		}
	}
	if n := len(a.Run("containerd", "s", "0123456789012345678901234567890123456789012345678901234567890123")); n > 107 {
		t.Errorf("socket path of %d bytes", n)
	}
}

func TestNetworkRangesAreDisjointAndInTheirBlock(t *testing.T) {
	for slot := range Slots {
		n := NewNetwork(slot)
		four := []netip.Prefix{n.Pods4, n.Services4, n.Link4, n.LoadBalancers4}
		six := []netip.Prefix{n.Pods6, n.Services6, n.Link6}
		checkDisjoint(t, n.Block4, four)
		checkDisjoint(t, n.Block6, six)
		if slot > 0 && (n.Block4.Overlaps(NewNetwork(slot-1).Block4) || n.Block6.Overlaps(NewNetwork(slot-1).Block6)) {
			t.Errorf("slots %d and %d overlap", slot-1, slot)
		}
	}
}

func checkDisjoint(t *testing.T, block netip.Prefix, parts []netip.Prefix) {
	t.Helper()
	for i, p := range parts {
		if p != p.Masked() || !block.Contains(p.Addr()) {
			t.Errorf("%s is not a prefix inside %s", p, block)
		}
		for _, q := range parts[:i] {
			if p.Overlaps(q) {
				t.Errorf("%s and %s overlap", p, q)
			}
		}
	}
}

func TestAddresses(t *testing.T) {
	n := NewNetwork(3)
	for got, want := range map[netip.Addr]string{
		n.Host4: "10.131.128.1", n.Node4: "10.131.128.2",
		n.API4: "10.131.64.1", n.DNS4: "10.131.64.10",
		n.Node6: "fd6d:7a00:3:3::2", n.DNS6: "fd6d:7a00:3:2::a",
	} {
		if got.String() != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	if n.APIServer() != "https://10.131.128.2:6443" {
		t.Error(n.APIServer())
	}
}

func TestConflict(t *testing.T) {
	n := NewNetwork(3)
	for route, want := range map[string]bool{
		"10.131.4.0/24":      true,
		"10.131.0.0/16":      true,
		"10.0.0.0/8":         false, // ours are more specific
		"10.132.0.0/16":      false,
		"fd6d:7a00:3:9::/64": true,
		"0.0.0.0/0":          false,
	} {
		if _, got := n.Conflict([]netip.Prefix{netip.MustParsePrefix(route)}); got != want {
			t.Errorf("%s: conflict %v, want %v", route, got, want)
		}
	}
}
