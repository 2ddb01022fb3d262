package envoy

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A copy of a request must not disturb anything but its own server. So it ends after mirrorTime, and a sidecar makes at
// most mirrorsAtOnce copies at the same time, for one Service port to one server. Envoy itself has no such bounds. It
// streams copies, and reads a request only as fast as the slowest of its servers: without a timeout, a server that does not
// read would hold up the request for good. Nobody waits for the answers, so the copies for a server that does not answer
// would pile up.
const (
	mirrorTime    = 15 * time.Second
	mirrorsAtOnce = 1024
)

// mirrorPrefix begins the names of the clusters for copies.
const mirrorPrefix = "mirror/"

// mirrorOptions are httpOptions with a timeout.
var mirrorOptions = func() *anypb.Any {
	options := clientsVersion()
	options.CommonHttpProtocolOptions.MaxStreamDuration = durationpb.New(mirrorTime)
	return toAny(options)
}()

// mirrorName returns the name of the cluster for the copies of requests to a Service port. The cluster belongs to that port
// alone, and comes and goes with it. The name has a hash of the port, because the length of a name is bounded.
func (t translation) mirrorName(r mesh.Rule, target mesh.Target) string {
	if t.edge != nil {
		return mirrorPrefix + t.cluster(r, target)
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(OutboundName(t.key))) // it never fails
	return fmt.Sprintf("%s%x/%s", mirrorPrefix, h.Sum64(), t.cluster(r, target))
}

// mirrorClusters returns the clusters for the copies that the rules make, each once.
func (t translation) mirrorClusters(rules mesh.PortRules) []Resource {
	var out []Resource
	seen := map[string]bool{}
	add := func(rules []mesh.Rule) {
		for _, r := range rules {
			for _, m := range r.Action.Mirrors {
				if name := t.mirrorName(r, m.Target); !seen[name] {
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

// ejectsNone is the policy of copies: what comes of them ejects no endpoint.
var ejectsNone = config.ServicePolicy{ConnectFailures: new(uint32(0))}

// mirrorCluster returns a cluster with the target's endpoints, identities and statistics, but without its policy.
func (t translation) mirrorCluster(name string, target mesh.Target) *clusterv3.Cluster {
	c := edsCluster(name, &mesh.Service{Key: target.Service, Identities: target.Identities, Policy: ejectsNone}, t.endpoints(target), SpeaksHTTP, t.cfg)
	c.CircuitBreakers = mirrorBounds()
	watchCalls(c, t.cfg.Traffic.PeerTimeout.Duration)
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: mirrorOptions}
	return c
}

func mirrorBounds() *clusterv3.CircuitBreakers {
	most := wrapperspb.UInt32(mirrorsAtOnce)
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections: most, MaxPendingRequests: most, MaxRequests: most,
	}}}
}
