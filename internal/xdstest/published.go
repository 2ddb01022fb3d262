package xdstest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// mark is a route of a Service that does not exist: nothing is published of it, but it has a status. The control plane
// publishes in the order in which it hears of changes, and says in statuses what it has published; so everything that it
// had heard of before is published when the status is of the route's newest generation.
var mark = mesh.ID{Kind: mesh.KindHTTPRoute, Key: mesh.Key{Namespace: "xdstest", Name: "published"}}

// Published waits until everything that was applied or deleted before is published.
func (c *ControlPlane) Published() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.Cluster.Heard(ctx); err != nil {
		return err
	}
	generation, err := c.moveMark()
	if err != nil {
		return err
	}
	for {
		at, changed := c.statuses.generation(mark)
		if at >= generation {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("not published: generation %d of a route, its status is of %d", generation, at)
		}
	}
}

// moving makes it one change after the other.
var moving sync.Mutex

// moveMark changes the route, and returns its generation.
func (c *ControlPlane) moveMark() (int64, error) {
	moving.Lock()
	defer moving.Unlock()
	route := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: mark.Namespace, Name: mark.Name}}
	before, err := c.Cluster.Get(route)
	if err != nil {
		return 0, err
	}
	next := int64(1)
	if before != nil {
		next = before.GetGeneration() + 1
	}
	route.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: "none"}}
	route.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(fmt.Sprintf("generation-%d.example", next))}
	if err := c.Cluster.Apply(route); err != nil {
		return 0, err
	}
	now, err := c.Cluster.Get(route)
	if err == nil && now.GetGeneration() != next {
		err = errors.New("somebody else has changed the route")
	}
	return next, err
}

// statuses keeps what the control plane says of routes and policies.
type statuses struct {
	mu      sync.Mutex
	said    map[mesh.ID][]mesh.Status
	whole   map[mesh.ID]mesh.Status
	changed chan struct{}
}

func newStatuses() *statuses {
	return &statuses{said: map[mesh.ID][]mesh.Status{}, whole: map[mesh.ID]mesh.Status{}, changed: make(chan struct{})}
}

// generation returns the oldest generation of which something is said of an object, 0 for none, and a channel that is closed
// with the next change.
func (s *statuses) generation(of mesh.ID) (generation int64, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, list := range s.said {
		for _, st := range list {
			if st.Object == of && (generation == 0 || st.Generation < generation) {
				generation = st.Generation
			}
		}
	}
	return generation, s.changed
}

func (s *statuses) change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Set implements xds.Statuses, as do the others.
func (s *statuses) Set(statuses map[mesh.ID][]mesh.Status) {
	s.change(func() { maps.Copy(s.said, statuses) })
}

func (s *statuses) SetWhole(list []mesh.Status) {
	s.change(func() {
		for _, st := range list {
			s.whole[st.Object] = st
		}
	})
}

func (s *statuses) Forget(id mesh.ID) { s.change(func() { delete(s.whole, id) }) }

func (*statuses) Written(mesh.ID) {}

// Statuses returns what is said of a route or policy, for each Service that it names or of it as a whole.
func (c *ControlPlane) Statuses(of mesh.ID) []mesh.Status {
	c.statuses.mu.Lock()
	defer c.statuses.mu.Unlock()
	var out []mesh.Status
	for _, list := range c.statuses.said {
		for _, st := range list {
			if st.Object == of {
				out = append(out, st)
			}
		}
	}
	if st, ok := c.statuses.whole[of]; ok {
		out = append(out, st)
	}
	return out
}
