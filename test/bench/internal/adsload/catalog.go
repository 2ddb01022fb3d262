package adsload

import (
	"fmt"
	"sync"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Kind is a resource type.
type Kind int

// The kinds, in the order in which a starting Envoy asks for them.
const (
	Clusters Kind = iota
	Endpoints
	Listeners
	Scopes
	Routes
	probes // secrets, which do not exist: their answer tells that all before has been looked at
	kinds
)

var typeURLs = [kinds]string{
	envoy.ClusterType, envoy.EndpointType, envoy.ListenerType, envoy.ScopedRouteType, envoy.RouteType,
	"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
}

func (k Kind) String() string {
	return [kinds]string{"CDS", "EDS", "LDS", "SRDS", "RDS", "SDS"}[k]
}

func kindOf(typeURL string) (Kind, error) {
	for k, url := range typeURLs {
		if url == typeURL {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("response of type %q, which nobody asked for", typeURL)
}

// resource is one version of a resource, shared by all clients.
type resource struct {
	id            int32
	name, version string
	// refs are the ids of what it refers to: of a cluster its endpoints, of a scope its route
	// configuration, of a route configuration its clusters.
	refs []int32
}

// catalog knows every name and every version that any client was sent.
type catalog struct {
	mu    sync.RWMutex
	kinds [kinds]struct {
		ids      map[string]int32
		names    []string
		versions []map[string]*resource // by id
	}
}

func newCatalog() *catalog {
	c := &catalog{}
	for k := range c.kinds {
		c.kinds[k].ids = map[string]int32{}
	}
	return c
}

// id numbers the names of a kind.
func (c *catalog) id(k Kind, name string) int32 {
	c.mu.RLock()
	id, ok := c.kinds[k].ids[name]
	c.mu.RUnlock()
	if ok {
		return id
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.add(k, name)
}

func (c *catalog) add(k Kind, name string) int32 {
	names := &c.kinds[k]
	if id, ok := names.ids[name]; ok {
		return id
	}
	id := int32(len(names.names))
	names.ids[name] = id
	names.names = append(names.names, name)
	names.versions = append(names.versions, map[string]*resource{})
	return id
}

func (c *catalog) name(k Kind, id int32) string {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.kinds[k].names[id]
}

// resource finds what a client was sent; the first one that gets a version reads it for all.
func (c *catalog) resource(k Kind, w wireResource) (*resource, error) {
	c.mu.RLock()
	names := &c.kinds[k]
	if id, ok := names.ids[string(w.name)]; ok {
		if r := names.versions[id][string(w.version)]; r != nil {
			c.mu.RUnlock()
			return r, nil
		}
	}
	c.mu.RUnlock()
	refs, err := read(k, w.body)
	if err != nil {
		return nil, fmt.Errorf("%s %q: %w", k, w.name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := &resource{name: string(w.name), version: string(w.version)}
	r.id = c.add(k, r.name)
	for _, ref := range refs {
		r.refs = append(r.refs, c.add(refersTo[k], ref))
	}
	c.kinds[k].versions[r.id][r.version] = r
	return r, nil
}

var refersTo = [kinds]Kind{Clusters: Endpoints, Scopes: Routes, Routes: Clusters}

// read gives the names that the Any of a resource refers to.
func read(k Kind, anyBytes []byte) (refs []string, err error) {
	body, err := anyValue(anyBytes)
	if err != nil {
		return nil, err
	}
	switch k {
	case Clusters:
		var m clusterv3.Cluster
		err = proto.Unmarshal(body, &m)
		if eds := m.GetEdsClusterConfig(); eds != nil {
			refs = []string{eds.GetServiceName()}
		}
	case Scopes:
		var m routev3.ScopedRouteConfiguration
		err = proto.Unmarshal(body, &m)
		if name := m.GetRouteConfigurationName(); name != "" { // else it holds its routes itself
			refs = []string{name}
		}
	case Routes:
		var m routev3.RouteConfiguration
		err = proto.Unmarshal(body, &m)
		refs = clustersOf(&m)
	}
	return refs, err
}

func clustersOf(m *routev3.RouteConfiguration) []string {
	var out []string
	for _, host := range m.VirtualHosts {
		for _, route := range host.Routes {
			if name := route.GetRoute().GetCluster(); name != "" {
				out = append(out, name)
			}
			for _, w := range route.GetRoute().GetWeightedClusters().GetClusters() {
				out = append(out, w.GetName())
			}
		}
	}
	return out
}

func anyValue(b []byte) ([]byte, error) {
	var value []byte
	err := fields(b, func(n protowire.Number, v []byte) {
		if n == 2 {
			value = v
		}
	})
	return value, err
}
