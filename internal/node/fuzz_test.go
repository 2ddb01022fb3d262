package node_test

import (
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mizzen-mesh/mizzen/internal/node"
)

// Whatever a stranger says of itself: no crash, nothing without bounds, and what is accepted is read again as
// the same.
func FuzzFromProto(f *testing.F) {
	good := node.Node{Namespace: "shop", Pod: "one", UID: "u", ServiceAccount: "web", NodeName: "n", Version: "v", ConfigScope: "all", Workload: "Deployment/web"}.Proto()
	good.Metadata.Fields["ips"] = structpb.NewStringValue("10.1.2.3,fd00::3%eth0")
	odd := proto.Clone(good).(*corev3.Node)
	odd.Id, odd.Metadata.Fields["uid"] = "a/b/c", structpb.NewNumberValue(1)
	gateway := node.Node{Namespace: "shop", Pod: "edge-mizzen-1", UID: "u", ServiceAccount: "edge-mizzen", Gateway: true}.Proto()
	for _, n := range []*corev3.Node{good, odd, gateway, {}, {Id: "a/b", Cluster: "a/"}} {
		b, err := proto.Marshal(n)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &corev3.Node{}
		if proto.Unmarshal(b, p) != nil {
			return
		}
		n, err := node.FromProto(p)
		if err != nil {
			if len(err.Error()) > 4000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		for _, s := range []string{n.Namespace, n.Pod, n.ServiceAccount, n.UID, n.NodeName, n.Version, n.Workload} {
			if len(s) > 512 {
				t.Errorf("a field of %d bytes", len(s))
			}
		}
		again, err := node.FromProto(n.Proto())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(n.Proto(), again.Proto(), cmp.Comparer(proto.Equal)); diff != "" {
			t.Error(diff)
		}
	})
}
