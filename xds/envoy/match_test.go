package envoy

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

var serviceCIDR = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}

// serviceAt has one address and the ports: number and protocol by turns.
func serviceAt(ip string, ports ...any) *mesh.Service {
	svc := &mesh.Service{ClusterIPs: []netip.Addr{netip.MustParseAddr(ip)}}
	for i := 0; i < len(ports); i += 2 {
		svc.Ports = append(svc.Ports, mesh.Port{Number: uint16(ports[i].(int)), Protocol: ports[i+1].(mesh.Protocol)})
	}
	return svc
}

func TestProtocolTable(t *testing.T) {
	a, b, c := "10.0.0.1", "10.0.0.2", "10.0.0.3"
	for name, test := range map[string]struct {
		services []*mesh.Service
		// want is what becomes of connections: by address and port.
		want map[string]string
	}{
		"the most common, and who differs": {
			[]*mesh.Service{serviceAt(a, 80, mesh.HTTP), serviceAt(b, 80, mesh.HTTP), serviceAt(c, 80, mesh.TCP)},
			map[string]string{a + ":80": httpChain, b + ":80": httpChain, c + ":80": opaqueChain, "10.0.0.9:80": httpChain, a + ":81": passthroughChain},
		},
		"each port for itself": {
			[]*mesh.Service{serviceAt(a, 80, mesh.HTTP, 81, mesh.TCP), serviceAt(b, 81, mesh.Detect), serviceAt(c, 81, mesh.TCP)},
			map[string]string{a + ":80": httpChain, a + ":81": opaqueChain, b + ":81": "detect", c + ":81": opaqueChain},
		},
		"a tie of all":       {[]*mesh.Service{serviceAt(a, 80, mesh.TCP), serviceAt(b, 80, mesh.Detect), serviceAt(c, 80, mesh.HTTP)}, map[string]string{"10.0.0.9:80": httpChain, a + ":80": opaqueChain, b + ":80": "detect"}},
		"a tie without HTTP": {[]*mesh.Service{serviceAt(a, 80, mesh.TCP), serviceAt(b, 80, mesh.Detect)}, map[string]string{"10.0.0.9:80": "detect", a + ":80": opaqueChain}},
		"no address": {
			[]*mesh.Service{serviceAt(a, 80, mesh.HTTP), {Ports: []mesh.Port{{Number: 80, Protocol: mesh.TCP}, {Number: 81, Protocol: mesh.Detect}}}},
			map[string]string{a + ":80": httpChain, "10.0.0.9:80": httpChain, a + ":81": passthroughChain},
		},
		"one address, the same": {[]*mesh.Service{serviceAt(a, 80, mesh.TCP), serviceAt(a, 80, mesh.TCP), serviceAt(b, 80, mesh.HTTP)}, map[string]string{a + ":80": opaqueChain, b + ":80": httpChain}},
	} {
		t.Run(name, func(t *testing.T) {
			table := NewProtocolTable(test.services...)
			m := table.matcher(nil, serviceCIDR, nil)
			for to, want := range test.want {
				if got := chainOf(m, netip.MustParseAddrPort(to)); got != want {
					t.Errorf("%s: got %s, want %s", to, got, want)
				}
			}
		})
	}
}

// chainOf reads the matcher for a destination in the Service range.
func chainOf(m *matcherv3.Matcher, to netip.AddrPort) string {
	list := m.GetMatcherList().GetMatchers()
	on := list[len(list)-1].OnMatch
	for on.GetAction() == nil {
		m = on.GetMatcher()
		branches := m.GetMatcherTree().GetExactMatchMap().GetMap()
		if branches["'h2c'"] != nil {
			return "detect"
		}
		if on = branches[fmt.Sprint(to.Port())]; on == nil {
			on = branches[to.Addr().String()]
		}
		if on == nil {
			on = m.OnNoMatch
		}
	}
	var name wrapperspb.StringValue
	if err := on.GetAction().GetTypedConfig().UnmarshalTo(&name); err != nil {
		panic(err)
	}
	return name.Value
}

// However a table came about, it is that of the Services that are in it.
func TestProtocolTableIsKeptUpToDate(t *testing.T) {
	protocols := []mesh.Protocol{mesh.HTTP, mesh.TCP, mesh.Detect}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		table := NewProtocolTable()
		var in []*mesh.Service
		for step := range 200 {
			if len(in) > 0 && r.IntN(2) == 0 {
				i := r.IntN(len(in))
				table.Remove(in[i])
				in = slices.Delete(in, i, i+1)
			} else {
				// Few addresses, so that they are shared.
				svc := serviceAt(fmt.Sprint("10.0.0.", r.IntN(4)), 80+r.IntN(2), protocols[r.IntN(3)], 90, protocols[r.IntN(3)])
				if r.IntN(3) == 0 {
					svc.ClusterIPs = append(svc.ClusterIPs, netip.MustParseAddr(fmt.Sprint("fd00::", r.IntN(3))))
				}
				table.Add(svc)
				in = append(in, svc)
			}
			if fresh := NewProtocolTable(in...); !reflect.DeepEqual(table, fresh) {
				t.Fatalf("seed %d, step %d: got %v, want %v", seed, step, table, fresh)
			}
		}
		for _, svc := range in {
			table.Remove(svc)
		}
		if len(table.ports) > 0 {
			t.Errorf("seed %d: %v left", seed, table)
		}
	}
}

// Two Services have one address for a moment, with protocols of which neither is the usual one.
func TestSharedAddressGivesTheSameBytes(t *testing.T) {
	table := NewProtocolTable(
		serviceAt("10.0.0.1", 80, mesh.HTTP), serviceAt("10.0.0.2", 80, mesh.HTTP), serviceAt("10.0.0.3", 80, mesh.HTTP),
		serviceAt("10.0.0.9", 80, mesh.TCP), serviceAt("10.0.0.9", 80, mesh.Detect),
	)
	want := table.matcher(nil, serviceCIDR, nil)
	for range 50 {
		if got := table.matcher(nil, serviceCIDR, nil); !proto.Equal(got, want) {
			t.Fatalf("got\n%v, and then\n%v", want, got)
		}
	}
}
