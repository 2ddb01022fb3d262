package server

import (
	"fmt"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// What a proxy reads of a response is what was published, where lengths take one byte, two and three.
func TestResponseOnTheWire(t *testing.T) {
	r := &response{envelope: &discoveryv3.DeltaDiscoveryResponse{TypeUrl: envoy.ClusterType, Nonce: "7", RemovedResources: []string{"gone"}}}
	var want []*clusterv3.Cluster
	for _, n := range []int{0, 1, 60, 100, 127, 128, 129, 1 << 14, 1 << 15} {
		c := &clusterv3.Cluster{Name: fmt.Sprint(n), AltStatName: strings.Repeat("x", n)}
		e, err := newEntry(envoy.Resource{Type: envoy.ClusterType, Name: c.Name, Message: c}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		want, r.resources = append(want, c), append(r.resources, e)
	}
	out, err := newCodec().Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	got := &discoveryv3.DeltaDiscoveryResponse{}
	if err := proto.Unmarshal(out.Materialize(), got); err != nil {
		t.Fatal(err)
	}
	if got.TypeUrl != envoy.ClusterType || got.Nonce != "7" || len(got.RemovedResources) != 1 || len(got.Resources) != len(want) {
		t.Fatalf("type %s, nonce %s, %d removed, %d resources", got.TypeUrl, got.Nonce, len(got.RemovedResources), len(got.Resources))
	}
	for i, resource := range got.Resources {
		c, err := resource.Resource.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(c, want[i]) || resource.Name != want[i].Name || resource.Version != r.resources[i].version || resource.Version == "" {
			t.Errorf("cluster %s: %v, version %q", want[i].Name, resource.Name, resource.Version)
		}
	}
}
