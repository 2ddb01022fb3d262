package server

import (
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Bounds of usage; the least recently used goes first.
const (
	maxWorkloads    = 4096
	usedPerWorkload = 256
)

// usage remembers what the pods of each workload have asked for, so that it can be preloaded to the next pod. It is
// lost with the process, and complete again when the proxies have come back, because they list what they hold.
type usage struct {
	mu        sync.Mutex
	workloads *simplelru.LRU[string, *simplelru.LRU[envoy.ID, struct{}]]
}

func newUsage() *usage {
	return &usage{workloads: newLRU[string, *simplelru.LRU[envoy.ID, struct{}]](maxWorkloads)}
}

func newLRU[K comparable, V any](size int) *simplelru.LRU[K, V] {
	lru, err := simplelru.NewLRU[K, V](size, nil)
	if err != nil {
		panic(err) // the size is not positive
	}
	return lru
}

// tracked reports whether note remembers a name: it must be a route configuration or a cluster, and the pod must have a
// workload. A gateway is sent what its routes name anyway.
func tracked(n node.Node, id envoy.ID) bool {
	return n.Workload != "" && !n.Gateway && (id.Type == envoy.RouteType && !envoy.IsLegacyRoute(id.Name) || id.Type == envoy.ClusterType)
}

// note remembers that a proxy asked for a route configuration or a cluster by name.
func (u *usage) note(n node.Node, id envoy.ID) {
	if !tracked(n, id) {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	used, ok := u.workloads.Get(workload(n))
	if !ok {
		used = newLRU[envoy.ID, struct{}](usedPerWorkload)
		u.workloads.Add(workload(n), used)
	}
	used.Add(id, struct{}{})
}

// of returns what a proxy's workload has asked for.
func (u *usage) of(n node.Node) map[envoy.ID]struct{} {
	ids := u.list(workload(n))
	if n.Workload == "" || len(ids) == 0 {
		return nil
	}
	out := make(map[envoy.ID]struct{}, len(ids))
	for _, id := range ids {
		out[id] = struct{}{}
	}
	return out
}

func (u *usage) list(workload string) []envoy.ID {
	u.mu.Lock()
	defer u.mu.Unlock()
	if used, ok := u.workloads.Get(workload); ok {
		return used.Keys()
	}
	return nil
}

// workload is the key of usage: "<namespace>/<kind>/<name>".
func workload(n node.Node) string { return n.Namespace + "/" + n.Workload }
