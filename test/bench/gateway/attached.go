package main

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		plain("deleted in", show(deleted.took)),
		most("after the last delete attachedRoutes is 0", deleted.right, wantDetached),
		atMost("status writes of the Gateway, for both", ofGateway, wantGatewayWrites),
		plain("in all", fmt.Sprint(ofGateway+made.writes[routeKind]+deleted.writes[routeKind])),
	}, nil
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
