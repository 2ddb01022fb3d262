package server

import (
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/cespare/xxhash/v2"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Store holds the newest version of every resource, each marshalled once and shared by all proxies.
type Store struct {
	mu        sync.RWMutex
	resources map[string]map[string]map[string]*entry // type URL, name, variant
	listeners map[listener]struct{}
}

// entry is one variant of a resource.
type entry struct {
	wire *discoveryv3.Resource
	// endpoints names the load assignment that Envoy asks for when it gets this cluster.
	endpoints string
}

func (e *entry) version() string { return e.wire.GetVersion() }

// listener is told which resources have changed.
type listener interface{ changed(ids []envoy.ID) }

// Change is applied as one.
type Change struct {
	// Set adds or replaces resources. All variants of a name come together.
	Set []envoy.Resource
	// Remove names resources that are no more. What is also in Set stays.
	Remove []envoy.ID
}

// NewStore gives an empty store.
func NewStore() *Store {
	return &Store{resources: map[string]map[string]map[string]*entry{}, listeners: map[listener]struct{}{}}
}

// Apply makes a change visible and tells every proxy's stream what is new. What is set to the bytes
// it already has is no change. It gives the IDs of what did change.
func (s *Store) Apply(c Change) ([]envoy.ID, error) {
	next := map[envoy.ID]map[string]*entry{}
	for _, r := range c.Set {
		e, err := newEntry(r)
		if err != nil {
			return nil, err
		}
		if next[r.ID()] == nil {
			next[r.ID()] = map[string]*entry{}
		}
		next[r.ID()][r.Variant] = e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var changed []envoy.ID
	for id, variants := range next {
		if s.resources[id.Type] == nil {
			s.resources[id.Type] = map[string]map[string]*entry{}
		}
		if !sameVersions(s.resources[id.Type][id.Name], variants) {
			s.resources[id.Type][id.Name] = variants
			changed = append(changed, id)
		}
	}
	for _, id := range c.Remove {
		_, kept := next[id]
		if _, ok := s.resources[id.Type][id.Name]; ok && !kept {
			delete(s.resources[id.Type], id.Name)
			changed = append(changed, id)
		}
	}
	if len(changed) > 0 {
		for l := range s.listeners {
			l.changed(changed)
		}
	}
	return changed, nil
}

func newEntry(r envoy.Resource) (*entry, error) {
	body := &anypb.Any{}
	if err := anypb.MarshalFrom(body, r.Message, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("marshal %s %q: %w", r.Type, r.Name, err)
	}
	e := &entry{wire: &discoveryv3.Resource{
		Name:     r.Name,
		Version:  strconv.FormatUint(xxhash.Sum64(body.Value), 36),
		Resource: body,
	}}
	if c, ok := r.Message.(*clusterv3.Cluster); ok {
		e.endpoints = c.GetEdsClusterConfig().GetServiceName()
	}
	return e, nil
}

func sameVersions(a, b map[string]*entry) bool {
	if len(a) != len(b) {
		return false
	}
	for variant, e := range a {
		if other, ok := b[variant]; !ok || other.version() != e.version() {
			return false
		}
	}
	return true
}

// lookup gives what one proxy is to have under a name, or nil.
func (s *Store) lookup(typeURL, name string, n node.Node) *entry {
	s.mu.RLock()
	defer s.mu.RUnlock()
	variants := s.resources[typeURL][name]
	if e, ok := variants[envoy.Variant(typeURL, n)]; ok {
		return e
	}
	return variants[""]
}

// names are all names of a type, in order.
func (s *Store) names(typeURL string) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := make([]string, 0, len(s.resources[typeURL]))
	for name := range s.resources[typeURL] {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (s *Store) listen(l listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners[l] = struct{}{}
}

func (s *Store) forget(l listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}
