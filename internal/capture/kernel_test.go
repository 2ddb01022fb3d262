package capture

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// podWithApps gives a pod with rules, stand-ins for Envoy and the agent, and applications.
func podWithApps(t *testing.T, s Settings, v Variant) (pod, peer ns) {
	t.Helper()
	pod, peer = newPod(t)
	pod.do(func() error { return Apply(Rules(s, v)) })
	pod.serve("outbound", "tcp", ":15001")
	pod.serve("inbound", "tcp", ":15006")
	pod.serve("agent", "tcp", ":15020")
	pod.serve("app", "tcp", ":8080") // one dual-stack socket on [::]
	pod.serve("app", "tcp4", podV4+":8081")
	pod.serve("app", "tcp6", "["+podV6+"]:8081")
	pod.serve("private", "tcp4", "127.0.0.1:8082")
	pod.serve("private", "tcp6", "[::1]:8082")
	pod.serve("excluded", "tcp", ":9090")
	pod.serve("v6only", "tcp6", "[::]:8083")
	for _, port := range []string{"80", "3306"} {
		peer.serve("far", "tcp", ":"+port)
	}
	return pod, peer
}

func excluding() Settings {
	s := Default()
	s.ExcludeInboundPorts = []uint16{9090}
	s.ExcludeOutboundPorts = []uint16{3306}
	s.ExcludeOutboundCIDRs = []netip.Prefix{
		netip.MustParsePrefix(peerV4 + "/31"), netip.MustParsePrefix("fd00:88::/64"),
	}
	return s
}

func TestOutbound(t *testing.T) {
	for _, callers := range []bool{false, true} {
		t.Run(fmt.Sprintf("callers %t", callers), func(t *testing.T) { testOutbound(t, callers) })
	}
}

func testOutbound(t *testing.T, callers bool) {
	s := excluding()
	s.PodAddresses = ownAddresses(callers)
	pod, _ := podWithApps(t, s, Full)
	for _, tt := range []struct{ name, addr, want string }{
		{"v4", farV4 + ":80", "outbound " + farV4 + ":80"},
		{"v6", "[" + farV6 + "]:80", "outbound [" + farV6 + "]:80"},
		{"nobody listens there", farV4 + ":81", "outbound " + farV4 + ":81"},
		{"Envoy's port elsewhere", farV4 + ":15001", "outbound " + farV4 + ":15001"},
		{"excluded port v4", farV4 + ":3306", "far " + farV4 + ":3306"},
		{"excluded port v6", "[" + farV6 + "]:3306", "far [" + farV6 + "]:3306"},
		{"excluded CIDR v4", peerV4 + ":80", "far " + peerV4 + ":80"},
		{"excluded CIDR v6", "[" + peerV6 + "]:80", "far [" + peerV6 + "]:80"},
		{"own address v4", podV4 + ":8080", "app " + podV4 + ":8080"},
		{"own address v6", "[" + podV6 + "]:8080", "app [" + podV6 + "]:8080"},
		{"loopback v4", "127.0.0.1:8082", "private 127.0.0.1:8082"},
		{"loopback v6", "[::1]:8082", "private [::1]:8082"},
		{"own agent", "127.0.0.1:15020", "agent 127.0.0.1:15020"},
		{"Envoy's outbound port directly", "127.0.0.1:15001", "refused"},
		{"Envoy's inbound port directly", podV4 + ":15006", "refused"},
		{"Envoy's inbound port directly v6", "[" + podV6 + "]:15006", "refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := pod.ask(tt.addr); got != tt.want {
				t.Errorf("%s answered %q, want %q", tt.addr, got, tt.want)
			}
		})
	}
}

func TestOutboundByUser(t *testing.T) {
	pod, _ := podWithApps(t, Default(), Full)
	for _, tt := range []struct {
		name       string
		uid        uint32
		addr, want string
	}{
		{"the proxy v4", 1337, farV4 + ":80", "far " + farV4 + ":80"},
		{"the proxy v6", 1337, "[" + farV6 + "]:80", "far [" + farV6 + "]:80"},
		{"another user", 1338, farV4 + ":80", "outbound " + farV4 + ":80"},
		{"the proxy to the application", 1337, podV4 + ":8080", "app " + podV4 + ":8080"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := pod.askAs(tt.uid, tt.addr); got != tt.want {
				t.Errorf("%s answered %q to user %d, want %q", tt.addr, got, tt.uid, tt.want)
			}
		})
	}
}

// A call that the sidecar makes to its own pod goes to the inbound port; what it and the agent say to the
// application does not.
func TestOwnCalls(t *testing.T) {
	for _, callers := range []bool{false, true} {
		t.Run(fmt.Sprintf("callers %t", callers), func(t *testing.T) { testOwnCalls(t, callers) })
	}
}

func testOwnCalls(t *testing.T, callers bool) {
	s := excluding()
	s.CapturesOwnCalls, s.PodAddresses = true, ownAddresses(callers)
	pod, _ := podWithApps(t, s, Full)
	for _, tt := range []struct {
		name       string
		uid        uint32
		priority   int
		addr, want string
	}{
		{"a call v4", 1337, fixed.CallPriority, podV4 + ":8080", "inbound " + podV4 + ":8080"},
		{"a call v6", 1337, fixed.CallPriority, "[" + podV6 + "]:8080", "inbound [" + podV6 + "]:8080"},
		{"a call to an excluded port", 1337, fixed.CallPriority, podV4 + ":9090", "excluded " + podV4 + ":9090"},
		{"a call to the agent", 1337, fixed.CallPriority, podV4 + ":15020", "agent " + podV4 + ":15020"},
		{"a call elsewhere", 1337, fixed.CallPriority, farV4 + ":80", "far " + farV4 + ":80"},
		{"to the application v4", 1337, 0, podV4 + ":8080", "app " + podV4 + ":8080"},
		{"to the application v6", 1337, 0, "[" + podV6 + "]:8080", "app [" + podV6 + "]:8080"},
		{"another user", 1338, fixed.CallPriority, podV4 + ":8080", "app " + podV4 + ":8080"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := pod.askWith(tt.uid, tt.priority, tt.addr); got != tt.want {
				t.Errorf("%s answered %q, want %q", tt.addr, got, tt.want)
			}
		})
	}
}

func TestInbound(t *testing.T) {
	for _, tt := range []struct {
		name, addr string
		want       string
		// plain is the answer to the rules of an old kernel, where it differs.
		plain string
	}{
		{"dual-stack listener v4", podV4 + ":8080", "inbound " + podV4 + ":8080", ""},
		{"dual-stack listener v6", "[" + podV6 + "]:8080", "inbound [" + podV6 + "]:8080", ""},
		{"listener on the address v4", podV4 + ":8081", "inbound " + podV4 + ":8081", ""},
		{"listener on the address v6", "[" + podV6 + "]:8081", "inbound [" + podV6 + "]:8081", ""},
		{"no listener v4", podV4 + ":8099", "refused", "inbound " + podV4 + ":8099"},
		{"no listener v6", "[" + podV6 + "]:8099", "refused", "inbound [" + podV6 + "]:8099"},
		{"listener on loopback only v4", podV4 + ":8082", "refused", "inbound " + podV4 + ":8082"},
		{"listener on loopback only v6", "[" + podV6 + "]:8082", "refused", "inbound [" + podV6 + "]:8082"},
		{"v6-only listener v4", podV4 + ":8083", "refused", "inbound " + podV4 + ":8083"},
		{"v6-only listener v6", "[" + podV6 + "]:8083", "inbound [" + podV6 + "]:8083", ""},
		{"excluded port v4", podV4 + ":9090", "excluded " + podV4 + ":9090", ""},
		{"excluded port v6", "[" + podV6 + "]:9090", "excluded [" + podV6 + "]:9090", ""},
		{"agent", podV4 + ":15020", "agent " + podV4 + ":15020", ""},
		{"Envoy's outbound port directly", podV4 + ":15001", "refused", "timeout"},
		{"Envoy's inbound port directly", podV4 + ":15006", "refused", "timeout"},
		{"Envoy's inbound port directly v6", "[" + podV6 + "]:15006", "refused", "timeout"},
	} {
		for _, variant := range []string{"full", "plain", "callers"} {
			want, s, v := tt.want, excluding(), Full
			s.PodAddresses = ownAddresses(variant == "callers")
			if variant == "plain" {
				v = Plain
				if tt.plain != "" {
					want = tt.plain
				}
			}
			t.Run(variant+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				_, peer := podWithApps(t, s, v)
				if got := peer.ask(tt.addr); got != want {
					t.Errorf("%s answered %q, want %q", tt.addr, got, want)
				}
			})
		}
	}
}

// An application that starts to listen is captured from then on, also for a caller that was refused
// a moment before.
func TestInboundListenerComesAndGoes(t *testing.T) {
	pod, peer := podWithApps(t, Default(), Full)
	addr := podV4 + ":8099"
	for range 2 {
		if got := peer.ask(addr); got != "refused" {
			t.Fatalf("without a listener: %q, want refused", got)
		}
		stop := pod.serve("late", "tcp", ":8099")
		if got, want := peer.ask(addr), "inbound "+addr; got != want {
			t.Fatalf("with a listener: %q, want %q", got, want)
		}
		stop()
	}
}

func TestUDPIsLeftAlone(t *testing.T) {
	pod, peer := podWithApps(t, Default(), Full)
	for _, addr := range []string{farV4 + ":5353", "[" + farV6 + "]:5353"} {
		var server net.PacketConn
		peer.do(func() (err error) { server, err = net.ListenPacket("udp", addr); return err })
		defer server.Close()
		var client net.Conn
		pod.do(func() (err error) { client, err = net.Dial("udp", addr); return err })
		defer client.Close()
		if _, err := io.WriteString(client, "hello"); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 16)
		if err := server.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, _, err := server.ReadFrom(buf); err != nil || string(buf[:n]) != "hello" {
			t.Errorf("%s got %q, %v", addr, buf[:n], err)
		}
	}
}

func TestApplyReplaces(t *testing.T) {
	pod, peer := podWithApps(t, excluding(), Full)
	foreign := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "foreign"}
	pod.do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.AddTable(foreign)
		return c.Flush()
	})
	for range 3 {
		pod.do(func() error {
			got, err := Install(Default())
			if got.Variant != Full {
				t.Errorf("variant %v, want Full", got.Variant)
			}
			return err
		})
	}
	pod.do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		chains, err := c.ListChains()
		if err != nil {
			return err
		}
		want := Rules(Default(), Full).Chains
		if len(chains) != len(want) {
			t.Errorf("%d chains, want %d", len(chains), len(want))
		}
		for i, chain := range chains {
			rules, err := c.GetRules(chain.Table, chain)
			if err != nil {
				return err
			}
			if len(rules) != len(want[i].Rules) {
				t.Errorf("chain %s has %d rules, want %d", chain.Name, len(rules), len(want[i].Rules))
			}
		}
		_, err = c.ListTableOfFamily(foreign.Name, foreign.Family)
		return err // somebody else's table is still there
	})
	if got, want := peer.ask(podV4+":9090"), "inbound "+podV4+":9090"; got != want {
		t.Errorf("a port that is no longer excluded answered %q, want %q", got, want)
	}
}

// unknownKey stands for an expression that the kernel does not have.
type unknownKey struct{ HasSocket }

func (unknownKey) exprs() []any {
	return []any{&expr.Socket{Key: 99, Register: register}}
}

func TestRefusedRulesLeaveTheOldOnes(t *testing.T) {
	pod, peer := podWithApps(t, excluding(), Full)
	refused := Rules(Default(), Full)
	rules := &refused.Chains[1].Rules
	*rules = append(*rules, Rule{Matches: []Match{unknownKey{}}, Verdict: Return{}})
	pod.do(func() error {
		if err := Apply(refused); !lacksExpression(err) {
			t.Errorf("error %v, want one that leads to the plain rules", err)
		}
		return nil
	})
	if got, want := peer.ask(podV4+":9090"), "excluded "+podV4+":9090"; got != want {
		t.Errorf("got %q, want %q as before", got, want)
	}
}

func TestApplyWithoutIPv6(t *testing.T) {
	pod, peer := newPod(t)
	pod.do(func() error {
		// /proc/sys/net shows the network namespace of the thread that opens it.
		return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
	})
	pod.do(func() error { return Apply(Rules(excluding(), Full)) })
	pod.serve("inbound", "tcp4", ":15006")
	pod.serve("app", "tcp4", ":8080")
	if got, want := peer.ask(podV4+":8080"), "inbound "+podV4+":8080"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
