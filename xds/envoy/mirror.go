package envoy

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A copy of a request bothers nobody but its server: it ends after mirrorTime, and while a sidecar has
// mirrorsAtOnce of one Service port to one server, there are no further ones. Envoy has no such bounds for copies
// itself. It streams them, and reads the request no faster than the slowest of its servers: without an end, a server
// that does not read would hold up the request for good. And nobody waits for the answers, so those of a server that
// does not answer would only become more.
const (
	mirrorTime    = 15 * time.Second
	mirrorsAtOnce = 1024
)

// mirrorOptions are httpOptions with an end.
var mirrorOptions = func() *anypb.Any {
	options := &upstreamhttpv3.HttpProtocolOptions{}
	if err := httpOptions.UnmarshalTo(options); err != nil {
		panic(err) // it has just been made
	}
	options.CommonHttpProtocolOptions.MaxStreamDuration = durationpb.New(mirrorTime)
	return toAny(options)
}()

// mirrorName is that of the cluster for the copies of requests to a Service port. It is of that port alone, with
// which it comes and goes; a hash names it, because a name is bounded.
func (t translation) mirrorName(target mesh.Target) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(OutboundName(t.key))) // never fails
	return fmt.Sprintf("mirror/%x/%s", h.Sum64(), t.cluster(target))
}

// mirrorClusters are the clusters for the copies that the rules make, each once.
func (t translation) mirrorClusters(rules mesh.PortRules) []Resource {
	var out []Resource
	seen := map[string]bool{}
	add := func(rules []mesh.Rule) {
		for _, r := range rules {
			for _, m := range r.Action.Mirrors {
				if name := t.mirrorName(m.Target); !seen[name] {
					seen[name] = true
					out = append(out, Resource{Type: ClusterType, Name: name, Message: t.mirrorCluster(name, m.Target)})
				}
			}
		}
	}
	add(rules.Producer)
	for _, namespace := range slices.Sorted(maps.Keys(rules.Consumer)) {
		add(rules.Consumer[namespace])
	}
	return out
}

// mirrorCluster has the target's endpoints with who they are, and its statistics, but none of its policy.
func (t translation) mirrorCluster(name string, target mesh.Target) *clusterv3.Cluster {
	c := edsCluster(name, &mesh.Service{Key: target.Service, Identities: target.Identities}, t.endpoints(target), SpeaksHTTP, t.cfg)
	c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     wrapperspb.UInt32(mirrorsAtOnce),
		MaxPendingRequests: wrapperspb.UInt32(mirrorsAtOnce),
		MaxRequests:        wrapperspb.UInt32(mirrorsAtOnce),
	}}}
	watchCalls(c, t.cfg.Traffic.PeerTimeout.Duration)
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: mirrorOptions}
	return c
}
