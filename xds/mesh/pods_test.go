package mesh

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// However an index came about, it is that of the pods that are in it.
func TestPodsAreKeptUpToDate(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		pods := NewPods("cluster.local")
		in := map[Key]*Pod{}
		for step := range 200 {
			key := Key{"shop", fmt.Sprint(r.IntN(5))}
			if r.IntN(3) == 0 {
				pods.Delete(key)
				delete(in, key)
			} else {
				// Few addresses, so that they go from one to the next, in three ranges.
				pod := &Pod{Key: key, Meshed: r.IntN(2) == 0, HostNetwork: r.IntN(4) == 0}
				for range r.IntN(3) {
					ip := netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(3))})
					if !slices.Contains(pod.IPs, ip) {
						pod.IPs = append(pod.IPs, ip)
					}
				}
				pods.Set(pod)
				in[key] = pod
			}
			fresh := NewPods("cluster.local")
			for _, pod := range in {
				fresh.Set(pod)
			}
			if !reflect.DeepEqual(fresh.ranges, pods.ranges) || !reflect.DeepEqual(fresh.byKey, pods.byKey) || len(fresh.byIP) != len(pods.byIP) {
				t.Fatalf("seed %d, step %d: got %v, want %v", seed, step, pods, fresh)
			}
			for ip := range fresh.byIP {
				addr := netip.AddrPortFrom(ip, 80)
				got, ok := pods.IdentityAt(addr)
				if want, wantOK := fresh.IdentityAt(addr); got != want || ok != wantOK {
					t.Fatalf("seed %d, step %d: %s: got %s, want %s", seed, step, ip, got, want)
				}
			}
		}
	}
}

func TestRanges(t *testing.T) {
	pods := NewPods("cluster.local")
	for i, ip := range []string{"10.0.0.1", "10.0.0.2", "10.0.1.1", "fd00:1::5", "fd00:1::6"} {
		pods.Set(&Pod{Key: Key{"shop", fmt.Sprint(i)}, Meshed: true, IPs: []netip.Addr{netip.MustParseAddr(ip)}})
	}
	pods.Set(&Pod{Key: Key{"shop", "bare"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.9.1")}})
	if got := fmt.Sprint(pods.Ranges()); got != "[10.0.0.0/24 10.0.1.0/24 fd00:1::/64]" {
		t.Error(got)
	}
	pods.Delete(Key{"shop", "0"})
	pods.Delete(Key{"shop", "2"})
	if got := fmt.Sprint(pods.Ranges()); got != "[10.0.0.0/24 fd00:1::/64]" {
		t.Errorf("after two have gone: %s", got)
	}
}

func TestPodRefs(t *testing.T) {
	a, b := injected("a", "10.0.0.1"), injected("b", "10.0.0.2")
	short := podEndpoint(a, "10.0.0.1")
	short.TargetRef.Namespace = ""
	node := podEndpoint(b, "10.0.0.3")
	node.TargetRef.Kind = "Node"
	got := PodRefs([]*discoveryv1.EndpointSlice{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Endpoints: []discoveryv1.Endpoint{podEndpoint(b, "10.0.0.2"), short, node}},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "shop"}, Endpoints: []discoveryv1.Endpoint{podEndpoint(a, "10.0.0.1"), podEndpoint(nil, "10.0.0.4")}},
	})
	if want := []Key{{"shop", "a"}, {"shop", "b"}}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	bare := injected("bare", "10.0.0.5", func(p *corev1.Pod) { p.Spec.InitContainers = nil })
	addrs := NewPods("cluster.local", BuildPod(b), BuildPod(bare)).PodAddrs([]*discoveryv1.EndpointSlice{
		{Endpoints: []discoveryv1.Endpoint{podEndpoint(b, "10.0.0.2"), podEndpoint(bare, "10.0.0.5"), podEndpoint(a, "10.0.0.1"), node, podEndpoint(nil, "fd00::1"), podEndpoint(nil, "10.0.0.4")}},
		{Endpoints: []discoveryv1.Endpoint{podEndpoint(nil, "10.0.0.4"), podEndpoint(nil, "x")}},
	})
	if got := fmt.Sprint(addrs); got != "[10.0.0.3 10.0.0.4 10.0.0.5 fd00::1]" {
		t.Errorf("addresses without pods of the mesh: %v", got)
	}
}
