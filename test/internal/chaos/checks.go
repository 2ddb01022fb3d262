package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// syncTime bounds the time until all sidecars have what the control plane has for them.
const syncTime = 10 * time.Second

// proxy is what a replica of the control plane says of a sidecar or a Gateway's Envoy at /debug/proxies.
type proxy struct {
	Proxy     string
	Connected time.Time
	Types     map[string]struct{ Unacknowledged bool }
	NACKs     map[string]struct {
		Time  time.Time
		Error string
	}
}

// synced waits until all proxies are in sync, and notes how long that took.
func (s *suite) synced(ctx context.Context) error {
	start := time.Now()
	err := cluster.Poll(ctx, syncTime, func(ctx context.Context) (string, error) {
		pods, err := s.Pods(ctx, s.ns, "")
		if err != nil {
			return err.Error(), nil //nolint:nilerr // it may answer soon
		}
		var want []string
		for _, p := range pods {
			if (sidecar.Has(&p) || isGateway(&p)) && cluster.Ready(&p) {
				want = append(want, p.Namespace+"/"+p.Name)
			}
		}
		known, err := s.proxies(ctx)
		if err != nil {
			return err.Error(), nil //nolint:nilerr // it may answer soon
		}
		return outOfSync(want, known, s.began), nil
	})
	took := time.Since(start)
	s.watch.note(func(w *watcher) { w.slowestSync = max(w.slowestSync, took) })
	if err != nil {
		return fmt.Errorf("sidecars in sync: %w", err)
	}
	return nil
}

// proxies are those that all replicas of the control plane know.
func (s *suite) proxies(ctx context.Context) ([]proxy, error) {
	pods, err := s.Pods(ctx, cluster.SystemNamespace, controllerLabel)
	if err != nil {
		return nil, err
	}
	var all []proxy
	for _, p := range pods {
		if !cluster.Ready(&p) {
			continue
		}
		body, err := s.Debug(ctx, cluster.Pod{Namespace: p.Namespace, Name: p.Name}, config.ControllerHTTPPort, "debug/proxies")
		if err != nil {
			return nil, err
		}
		var some []proxy
		if err := json.Unmarshal(body, &some); err != nil {
			return nil, fmt.Errorf("/debug/proxies of pod %s: %w", p.Name, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// outOfSync says which of the wanted proxies, <namespace>/<pod>, is not connected, has not answered, or has refused something since a
// moment. Of a proxy that two replicas know, the newer connection counts: the other one has not been seen to end yet.
func outOfSync(want []string, known []proxy, since time.Time) string {
	newest := map[string]proxy{}
	for _, p := range known {
		if now, ok := newest[p.Proxy]; !ok || p.Connected.After(now.Connected) {
			newest[p.Proxy] = p
		}
	}
	for _, name := range slices.Sorted(slices.Values(want)) {
		p, ok := newest[name]
		if !ok {
			return name + " is not connected"
		}
		for kind, t := range p.Types {
			if t.Unacknowledged {
				return fmt.Sprintf("%s has not answered to %s", name, kind)
			}
		}
		for kind, n := range p.NACKs {
			if n.Time.After(since) {
				return fmt.Sprintf("%s refuses %s: %s", name, kind, n.Error)
			}
		}
	}
	return ""
}

func isGateway(p *corev1.Pod) bool { return p.Labels[gatewayv1.GatewayNameLabelKey] != "" }

// exposed reports whether a pod should have a sidecar and has none.
func exposed(p *corev1.Pod) bool {
	return !sidecar.Has(p) && !isGateway(p) && p.Labels[config.LabelInjection] != config.InjectionDisabled
}

// Bounds of the events of one object: for its beginning, and for each fault.
const eventsFirst, eventsEach = 40, 5

// events are those of the run's namespace and of the control plane's.
func (s *suite) events(ctx context.Context) ([]corev1.Event, error) {
	var all []corev1.Event
	for _, ns := range []string{s.ns, cluster.SystemNamespace} {
		list, err := s.CoreV1().Events(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		all = append(all, list.Items...)
	}
	return all, nil
}

// eventCheck looks for objects with many events that were not there before.
func (s *suite) eventCheck(ctx context.Context, before []corev1.Event) check {
	all, err := s.events(ctx)
	if err != nil {
		return check{"events of one object", err.Error(), "", false}
	}
	most, of := 0, ""
	for object, n := range eventCounts(all, before) {
		if n > most || n == most && object < of {
			most, of = n, object
		}
	}
	bound := eventsFirst + eventsEach*len(s.report.events)
	return check{"events of one object", strings.TrimSpace(fmt.Sprintf("%d %s", most, of)), fmt.Sprintf("at most %d", bound), most <= bound}
}

// eventCounts adds up what has happened to each object since some events were seen.
func eventCounts(events, before []corev1.Event) map[string]int {
	seen := map[types.UID]int{}
	for _, e := range before {
		seen[e.UID] = times(e)
	}
	out := map[string]int{}
	for _, e := range events {
		if n := times(e) - seen[e.UID]; n > 0 {
			o := e.InvolvedObject
			out[fmt.Sprintf("%s %s/%s", o.Kind, o.Namespace, o.Name)] += n
		}
	}
	return out
}

// times is how often an event has happened.
func times(e corev1.Event) int {
	n := max(1, int(e.Count))
	if e.Series != nil {
		n = max(n, int(e.Series.Count))
	}
	return n
}
