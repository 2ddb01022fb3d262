package node

import (
	"net/netip"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

func TestRoundTrip(t *testing.T) {
	plain := Node{
		Namespace: "shop", Pod: "cart-1", UID: "0c5a", ServiceAccount: "cart", NodeName: "node-1",
		IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::3")}, Version: "v1",
	}
	full := plain
	full.ConfigScope, full.Workload = fixed.ScopeDemand, "Deployment/cart"
	seen := plain
	seen.CallerAddresses, seen.SocketLoadBalancing = true, true
	gateway := plain
	gateway.Gateway = true
	longest := full
	longest.Workload = strings.Repeat("w", maxField)
	for name, c := range map[string]struct {
		node   Node
		fields int // of the metadata
	}{
		"scope and workload": {full, 6},
		"neither":            {plain, 4},
		"what was tried":     {seen, 6},
		"a gateway":          {gateway, 5},
		"longest field":      {longest, 6},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.node.Proto()
			got, err := FromProto(p)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.node, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("-written +read:\n%s", diff)
			}
			if n := len(p.GetMetadata().GetFields()); n != c.fields {
				t.Errorf("%d fields of metadata, want %d: %v", n, c.fields, p.GetMetadata())
			}
		})
	}
}

func TestFromProtoRefuses(t *testing.T) {
	long := strings.Repeat("x", maxField+1)
	for name, c := range map[string]struct {
		change func(*corev3.Node)
		want   string
	}{
		"id":      {func(p *corev3.Node) { p.Id = "cart-1" }, `node.id: "cart-1": want "<namespace>/<pod>"`},
		"cluster": {func(p *corev3.Node) { p.Cluster = "other/cart" }, `node.cluster: "other/cart": want "shop/<service account>"`},
		"ips":     {metadata("ips", "10.1.2"), `node.metadata.ips: "10.1.2": `},
		"scope":   {metadata("configScope", "mesh"), `node.metadata.configScope: "mesh": want one of all, namespace, demand`},
		// What is too long is not repeated.
		"long id":       {func(p *corev3.Node) { p.Id = "shop/" + long }, "node.id: 518 bytes, want at most 512"},
		"long cluster":  {func(p *corev3.Node) { p.Cluster = "shop/" + long }, "node.cluster: 518 bytes, want at most 512"},
		"long uid":      {metadata("uid", long), "node.metadata.uid: 513 bytes"},
		"long nodeName": {metadata("nodeName", long), "node.metadata.nodeName: 513 bytes"},
		"long version":  {metadata("version", long), "node.metadata.version: 513 bytes"},
		"long workload": {metadata("workload", long), "node.metadata.workload: 513 bytes"},
		"long ips":      {metadata("ips", long), "node.metadata.ips: 513 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			p := Node{Namespace: "shop", Pod: "cart-1", ServiceAccount: "cart"}.Proto()
			c.change(p)
			if _, err := FromProto(p); err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error %v, want %s", err, c.want)
			}
		})
	}
}

func metadata(field, value string) func(*corev3.Node) {
	return func(p *corev3.Node) { p.Metadata.Fields[field] = structpb.NewStringValue(value) }
}

func TestCheck(t *testing.T) {
	id := Identity{Namespace: "shop", Pod: "cart-1", UID: "0c5a", ServiceAccount: "cart"}
	good := Node{Namespace: "shop", Pod: "cart-1", UID: "0c5a", ServiceAccount: "cart", NodeName: "any", Version: "any"}
	for name, c := range map[string]struct {
		change func(*Node)
		want   string // in the error; empty for none
	}{
		"itself":          {func(*Node) {}, ""},
		"pod":             {func(n *Node) { n.Pod = "cart-2" }, `node.id: "shop/cart-2": want "shop/cart-1"`},
		"namespace":       {func(n *Node) { n.Namespace = "bank" }, `node.id: "bank/cart-1"`},
		"service account": {func(n *Node) { n.ServiceAccount = "x" }, `node.cluster: "shop/x": want "shop/cart"`},
		"UID":             {func(n *Node) { n.UID = "" }, `node.metadata.uid: "": want "0c5a"`},
	} {
		n := good
		c.change(&n)
		err := n.Check(id)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
