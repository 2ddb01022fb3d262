package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// statuses follows what is said in the status of a Gateway and of its routes, and counts how often it was written.
type statuses struct {
	mu sync.Mutex
	// generations are those of objects by kind and name; of the same one every change is one of the status.
	generations map[string]int64
	accepted    map[string]bool // routes that are there
	good        int             // those of them that are accepted
	attached    int
	writes      map[string]int // by kind
	// written is when the last one was seen.
	written time.Time
	changed chan struct{}
}

func newStatuses() *statuses {
	return &statuses{generations: map[string]int64{}, accepted: map[string]bool{}, writes: map[string]int{}, changed: make(chan struct{})}
}

// note takes an event of a watch.
func (s *statuses) note(kind string, event watch.Event, now time.Time) error {
	o, known := event.Object.(*unstructured.Unstructured)
	if !known || event.Type == watch.Error {
		return fmt.Errorf("watch of kind %s: %v", kind, event.Object)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() { close(s.changed); s.changed = make(chan struct{}) }()
	name := o.GetNamespace() + "/" + o.GetName()
	key := kind + " " + name
	if event.Type == watch.Deleted {
		delete(s.generations, key)
		s.setAccepted(name, false)
		delete(s.accepted, name)
		return nil
	}
	if s.generations[key] == o.GetGeneration() && event.Type == watch.Modified {
		s.writes[kind]++
		s.written = now
	}
	s.generations[key] = o.GetGeneration()
	if kind == gatewayKind {
		var err error
		s.attached, err = attachedRoutes(o)
		return err
	}
	ok, err := accepted(o)
	s.setAccepted(name, ok)
	return err
}

func (s *statuses) setAccepted(route string, ok bool) {
	if s.accepted[route] {
		s.good--
	}
	if ok {
		s.good++
	}
	s.accepted[route] = ok
}

const gatewayKind, routeKind = "Gateway", "HTTPRoute"

// attachedRoutes is the number that the first listener's status has; -1 without.
func attachedRoutes(o *unstructured.Unstructured) (int, error) {
	var gw gatewayv1.Gateway
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &gw); err != nil {
		return 0, err
	}
	if len(gw.Status.Listeners) == 0 {
		return -1, nil
	}
	return int(gw.Status.Listeners[0].AttachedRoutes), nil
}

// accepted tells whether Mizzen says of a route's newest generation that it is accepted and that all it refers to is there.
func accepted(o *unstructured.Unstructured) (bool, error) {
	var route gatewayv1.HTTPRoute
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &route); err != nil {
		return false, err
	}
	for _, parent := range route.Status.Parents {
		if parent.ControllerName != config.ControllerName {
			continue
		}
		good := 0
		for _, c := range parent.Conditions {
			wanted := c.Type == string(gatewayv1.RouteConditionAccepted) || c.Type == string(gatewayv1.RouteConditionResolvedRefs)
			if wanted && c.Status == metav1.ConditionTrue && c.ObservedGeneration == route.Generation {
				good++
			}
		}
		return good == 2, nil
	}
	return false, nil
}

// missing says what is not as it should be with so many routes; nothing is "".
func (s *statuses) missing(routes int) (string, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attached == routes && s.good == routes && len(s.accepted) == routes {
		return "", s.changed
	}
	return fmt.Sprintf("attachedRoutes is %d, and %d of %d routes are accepted; want %d", s.attached, s.good, len(s.accepted), routes), s.changed
}

// await waits until everything is right with so many routes, or following them has failed.
func (s *statuses) await(ctx context.Context, failed <-chan error, routes int, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		text, changed := s.missing(routes)
		if text == "" {
			return nil
		}
		select {
		case <-changed:
		case err := <-failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("after %s still: %s", timeout, text)
		}
	}
}

// settled waits until no status has been written for a while, and returns how often they were since the last call, by kind.
func (s *statuses) settled(ctx context.Context, quiet time.Duration) (map[string]int, error) {
	for {
		s.mu.Lock()
		rest := quiet - time.Since(s.written)
		writes := s.writes
		if rest <= 0 {
			s.writes = map[string]int{}
		}
		s.mu.Unlock()
		if rest <= 0 {
			return writes, nil
		}
		if err := sleep(ctx, rest); err != nil {
			return nil, err
		}
	}
}

// sleep waits for so long, or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
