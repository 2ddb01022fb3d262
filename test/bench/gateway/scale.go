package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

const (
	// wantSeries is the most time series of a gateway's pod.
	wantSeries = 600
	// rest is how long everything is left alone before CPU and memory are read: the kubelet reads them every ten seconds.
	rest = 20 * time.Second
)

// scale makes thousands of routes, each with a host name and a Service of its own, in many namespaces, then one change a second, and
// measures what the control plane and the gateway need for it.
func scale(ctx context.Context, b *bench) ([]figure, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	address, err := b.begin(ctx, plainGateway, 1, nil)
	if err != nil {
		return nil, err
	}
	pods, err := b.Pods(ctx, b.ns, "app="+serverName)
	if err != nil {
		return nil, err
	}
	if len(pods) != 1 {
		return nil, fmt.Errorf("%d pods of %s/%s, want 1", len(pods), b.ns, serverName)
	}
	s, failed := newStatuses(), make(chan error, 2)
	err = errors.Join(b.follow(ctx, gatewayKind, gateways, s, failed), b.follow(ctx, routeKind, httpRoutes, s, failed))
	if err != nil {
		return nil, err
	}
	var m moments
	if err := m.take(ctx, b, "empty"); err != nil {
		return nil, err
	}
	if err := b.fillServices(ctx, pods[0].Status.PodIP); err != nil {
		return nil, err
	}
	if err := m.take(ctx, b, fmt.Sprintf("%d Services", b.routes)); err != nil {
		return nil, err
	}
	made, err := b.fillRoutes(ctx, s, failed)
	if err != nil {
		return nil, err
	}
	b.log("%d routes made in %s, statuses right %s later, writes %v", b.routes, show(made.took), show(made.right), made.writes)
	if err := m.take(ctx, b, fmt.Sprintf("%d routes", b.routes)); err != nil {
		return nil, err
	}
	times, answers, err := b.oneASecond(ctx, address)
	if err != nil {
		return nil, err
	}
	if err := m.take(ctx, b, "after the changes"); err != nil {
		return nil, err
	}
	figures := []figure{
		plain(fmt.Sprintf("%d routes in %d namespaces made in", b.routes, b.namespaces), show(made.took)),
		plain("all statuses right after the last one", show(made.right)),
		plain("status writes of the Gateway; of the routes", fmt.Sprintf("%d; %d", made.writes[gatewayKind], made.writes[routeKind])),
		plain(fmt.Sprintf("%d changes, one a second: in effect after p50; p99", len(times)), show(quantile(times, 0.5))+"; "+show(quantile(times, 0.99))),
		plain("answers meanwhile", counts(answers)),
	}
	return append(figures, m.figures()...), nil
}

func (b *bench) scaleNamespace(i int) string { return fmt.Sprintf("%s-%02d", b.ns, i%b.namespaces) }

// fillServices makes the namespaces, and for each route its endpoints and its Service.
func (b *bench) fillServices(ctx context.Context, endpoint string) error {
	if err := cluster.Each(ctx, b.namespaces, func(ctx context.Context, i int) error { return b.namespace(ctx, b.scaleNamespace(i), nil) }); err != nil {
		return err
	}
	return cluster.Each(ctx, b.routes, func(ctx context.Context, i int) error {
		ns, name := b.scaleNamespace(i), scaleName(i)
		if _, err := b.DiscoveryV1().EndpointSlices(ns).Create(ctx, slice(ns, name, endpoint), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("EndpointSlice %s/%s: %w", ns, name, err)
		}
		if _, err := b.CoreV1().Services(ns).Create(ctx, unmanaged(ns, name), metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("service %s/%s: %w", ns, name, err)
		}
		return nil
	})
}

// fillRoutes makes the routes.
func (b *bench) fillRoutes(ctx context.Context, s *statuses, failed <-chan error) (wave, error) {
	return b.until(ctx, s, failed, b.routes, b.routes, func(ctx context.Context, i int) error {
		ns, name := b.scaleNamespace(i), scaleName(i)
		if err := b.makeRoute(ctx, route(ns, name, b.ns, hostOf(i), name, httpPort)); err != nil {
			return fmt.Errorf("HTTPRoute %s/%s: %w", ns, name, err)
		}
		return nil
	})
}

// scaleName returns the name of a route, its Service and its EndpointSlice.
func scaleName(i int) string { return fmt.Sprintf("shop-%04d", i) }

// oneASecond adds to a route each second a header of its answers, and measures how soon it comes.
func (b *bench) oneASecond(ctx context.Context, address string) (times []time.Duration, answers map[int]int, err error) {
	client := &http.Client{Transport: &http.Transport{DialContext: dialer(address)}, Timeout: 10 * time.Second}
	answers = map[int]int{}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for turn := range int(b.churn / time.Second) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
		i, value := turn*79%b.routes, fmt.Sprint(turn)
		patch := fmt.Sprintf(`[{"op":"add","path":"/spec/rules/0/filters","value":[{"type":"ResponseHeaderModifier","responseHeaderModifier":{"set":[{"name":"x-turn","value":%q}]}}]}]`, value)
		ns, name := b.scaleNamespace(i), scaleName(i)
		if _, err := b.Dynamic.Resource(httpRoutes).Namespace(ns).Patch(ctx, name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
			return nil, nil, fmt.Errorf("HTTPRoute %s/%s: %w", ns, name, err)
		}
		start := time.Now()
		for {
			status, got, err := ask(ctx, client, "http://"+hostOf(i)+"/", "x-turn")
			if err != nil {
				return nil, nil, err
			}
			answers[status]++
			if got == value {
				times = append(times, time.Since(start))
				break
			}
			if time.Since(start) > probeTimeout {
				return nil, nil, fmt.Errorf("%s: status %d and x-turn %q, %s after %q was set", hostOf(i), status, got, probeTimeout, value)
			}
			if err := sleep(ctx, 5*time.Millisecond); err != nil {
				return nil, nil, err
			}
		}
	}
	return times, answers, nil
}

// moments are what all pods had used at some times.
type moments struct {
	names                 []string
	controllers, gateways [][]process
}

// take lets everything settle, and reads.
func (m *moments) take(ctx context.Context, b *bench, name string) error {
	if err := sleep(ctx, rest); err != nil {
		return err
	}
	controllers, gateways, err := b.usage(ctx)
	m.names, m.controllers, m.gateways = append(m.names, name), append(m.controllers, controllers), append(m.gateways, gateways)
	return err
}

// figures are memory at each time, CPU between them, and the time series.
func (m *moments) figures() []figure {
	var out []figure
	for at, name := range m.names {
		for _, kind := range []struct {
			what string
			all  [][]process
		}{{"control plane", m.controllers}, {"gateway", m.gateways}} {
			for i, p := range kind.all[at] {
				text := mb(p.memory)
				if p.series > 0 {
					text += ", of it allocated by Envoy " + mb(p.allocated)
				}
				if at > 0 && i < len(kind.all[at-1]) && kind.all[at-1][i].pod == p.pod {
					before := kind.all[at-1][i]
					text += fmt.Sprintf("; %.1f s of CPU since, %s of one", (p.cpu - before.cpu).Seconds(), share(before, p))
				}
				out = append(out, plain(fmt.Sprintf("%s, %s, pod %d", name, kind.what, i+1), text))
				if p.series > 0 {
					out = append(out, atMost(fmt.Sprintf("%s, gateway, pod %d: time series", name, i+1), p.series, wantSeries))
				}
			}
		}
	}
	return out
}
