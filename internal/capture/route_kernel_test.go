package capture

import (
	"errors"
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel can keep the route to the pod's own address, however often the rules are installed, and has its own still.
func TestRouteToSelf(t *testing.T) {
	pod, _ := newPod(t)
	pod.do(func() error {
		s := Default()
		s.CapturesOwnCalls = true
		for range 2 {
			installed, err := Install(s)
			if err := errors.Join(err, installed.WithoutCallers, installed.WithoutRoute); err != nil {
				return err
			}
		}
		want := []string{"lo", "eth0"}
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{
			Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Dst: netlink.NewIPNet(net.ParseIP(podV4)),
		}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE|netlink.RT_FILTER_DST)
		if err != nil {
			return err
		}
		if len(routes) != len(want) {
			t.Fatalf("routes to %s: %v, want one over each of %v", podV4, routes, want)
		}
		for i, r := range routes { // in the order in which the kernel tries them
			link, err := netlink.LinkByIndex(r.LinkIndex)
			if err != nil {
				return err
			}
			if got := link.Attrs().Name; got != want[i] {
				t.Errorf("route %d to %s is over %s, want %s", i, podV4, got, want[i])
			}
		}
		return nil
	})
}
