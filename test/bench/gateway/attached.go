package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// What is wanted of the statuses of a Gateway with a thousand routes.
const (
	wantAttached, wantDetached = 2 * time.Second, 5 * time.Second
	wantGatewayWrites          = 300
	// quiet is how long no status is written when all are.
	quiet = 3 * time.Second
)

// attached makes many routes of one Gateway as fast as the API server takes them, and deletes them, and measures how soon the
// statuses are right.
func attached(ctx context.Context, b *bench) ([]figure, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if _, err := b.begin(ctx, plainGateway, 1, nil); err != nil {
		return nil, err
	}
	s, failed := newStatuses(), make(chan error, 2)
	if err := b.follow(ctx, gatewayKind, gateways, s, failed); err != nil {
		return nil, err
	}
	if err := b.follow(ctx, routeKind, httpRoutes, s, failed); err != nil {
		return nil, err
	}
	if _, err := s.settled(ctx, quiet); err != nil {
		return nil, err
	}
	n := b.attached
	made, err := b.until(ctx, s, failed, n, n, func(ctx context.Context, i int) error {
		return b.makeRoute(ctx, route(b.ns, fmt.Sprintf("route-%04d", i), b.ns, hostOf(i), serverName, httpPort))
	})
	if err != nil {
		return nil, fmt.Errorf("after the last apply: %w", err)
	}
	b.log("%d routes made in %s, statuses right %s later, writes %v", n, show(made.took), show(made.right), made.writes)
	bare, err := b.writeStatuses(ctx, n)
	if err != nil {
		return nil, fmt.Errorf("status by a bare client: %w", err)
	}
	b.log("a bare client has written %d statuses in %s", n, show(bare))
	if _, err := s.settled(ctx, quiet); err != nil {
		return nil, err
	}
	deleted, err := b.until(ctx, s, failed, n, 0, func(ctx context.Context, i int) error {
		return b.Dynamic.Resource(httpRoutes).Namespace(b.ns).Delete(ctx, fmt.Sprintf("route-%04d", i), metav1.DeleteOptions{})
	})
	if err != nil {
		return nil, fmt.Errorf("after the last delete: %w", err)
	}
	b.log("deleted in %s, statuses right %s later, writes %v", show(deleted.took), show(deleted.right), deleted.writes)
	ofGateway := made.writes[gatewayKind] + deleted.writes[gatewayKind]
	return []figure{
		plain(fmt.Sprintf("%d HTTPRoutes applied in", n), show(made.took)),
		most("after the last apply attachedRoutes and all routes are right", made.right, wantAttached),
		plain(fmt.Sprintf("a bare client, which does nothing else meanwhile, writes %d statuses in", n), show(bare)),
		plain("deleted in", show(deleted.took)),
		most("after the last delete attachedRoutes is 0", deleted.right, wantDetached),
		atMost("status writes of the Gateway, for both", ofGateway, wantGatewayWrites),
		plain("in all", fmt.Sprint(ofGateway+made.writes[routeKind]+deleted.writes[routeKind])),
	}, nil
}

// writeStatuses adds the word of another controller to the status of each route, and returns how long that took: what the API
// server needs for as many writes.
func (b *bench) writeStatuses(ctx context.Context, n int) (time.Duration, error) {
	routes := b.Dynamic.Resource(httpRoutes).Namespace(b.ns)
	list, err := routes.List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, err
	}
	if len(list.Items) != n {
		return 0, fmt.Errorf("%d routes, want %d", len(list.Items), n)
	}
	start := time.Now()
	err = cluster.Each(ctx, n, func(ctx context.Context, i int) error {
		route := &list.Items[i]
		parents, _, err := unstructured.NestedSlice(route.Object, "status", "parents")
		if err != nil {
			return err
		}
		if len(parents) == 0 {
			return fmt.Errorf("HTTPRoute %s has no status.parents", route.GetName())
		}
		other := runtime.DeepCopyJSON(parents[0].(map[string]any))
		other["controllerName"] = "example.com/bench"
		if err := unstructured.SetNestedSlice(route.Object, append(parents, other), "status", "parents"); err != nil {
			return err
		}
		_, err = routes.UpdateStatus(ctx, route, metav1.UpdateOptions{})
		return err
	})
	return time.Since(start), err
}

// wave is what many changes took, and how much later the statuses were right.
type wave struct {
	took, right time.Duration
	writes      map[string]int
}

// until makes n changes and waits until the statuses are right with so many routes.
func (b *bench) until(ctx context.Context, s *statuses, failed <-chan error, n, routes int, do func(ctx context.Context, i int) error) (wave, error) {
	start := time.Now()
	if err := cluster.Each(ctx, n, do); err != nil {
		return wave{}, err
	}
	last := time.Now()
	if err := s.await(ctx, failed, routes, 5*time.Minute); err != nil {
		return wave{}, err
	}
	out := wave{took: last.Sub(start), right: time.Since(last)}
	var err error
	if out.writes, err = s.settled(ctx, quiet); err != nil {
		return wave{}, err
	}
	if text, _ := s.missing(routes); text != "" {
		return wave{}, fmt.Errorf("right once, and not any more: %s", text)
	}
	select {
	case err = <-failed:
	default:
	}
	return out, err
}
