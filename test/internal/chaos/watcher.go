package chaos

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

const (
	// everyLook is how often pods are looked at and processes are measured, and everyScrape how many looks lie between two scrapes: those
	// cost something.
	everyLook   = 2 * time.Second
	everyScrape = 8
)

// roles are the programs that are measured, by the file's name.
var roles = map[string]string{"envoy": "Envoy", "mizzen-proxy": "agent", controller: "controller"}

// watcher looks at all pods of the run, and those of the control plane, as long as faults are done.
type watcher struct {
	s      *suite
	cancel context.CancelFunc
	done   chan struct{}

	mu          sync.Mutex
	ended       time.Time
	samples     []sample
	looks       int
	seen        map[string]string // pods of the namespace, by UID
	exposed     map[string]bool   // those that should have a sidecar and have none
	networks    map[string]string // pods, by network namespace
	slowestSync time.Duration
}

func (s *suite) startWatch(ctx context.Context) *watcher {
	ctx, cancel := context.WithCancel(ctx)
	w := &watcher{s: s, cancel: cancel, done: make(chan struct{}), seen: map[string]string{}, exposed: map[string]bool{}, networks: map[string]string{}}
	go func() {
		defer close(w.done)
		tick := time.NewTicker(everyLook)
		defer tick.Stop()
		for ctx.Err() == nil {
			w.look(ctx)
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	return w
}

// stop ends it. The second time is of no effect.
func (w *watcher) stop() {
	w.cancel()
	<-w.done
	w.note(func(w *watcher) {
		if w.ended.IsZero() {
			w.ended = time.Now()
		}
	})
}

func (w *watcher) note(f func(*watcher)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

// look looks once. While the API server does not answer, nothing is seen.
func (w *watcher) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ask)
	defer cancel()
	ours, err := w.s.Pods(ctx, w.s.ns, "")
	if err != nil {
		return
	}
	theirs, err := w.s.Pods(ctx, cluster.SystemNamespace, controllerLabel)
	if err != nil {
		return
	}
	w.note(func(w *watcher) {
		for _, p := range ours {
			w.seen[string(p.UID)] = p.Name
			if exposed(&p) {
				w.exposed[p.Name] = true
			}
		}
		w.looks++
	})
	all := slices.Concat(ours, theirs)
	w.measure(all)
	if w.looks%everyScrape == 1 {
		w.scrape(ctx, all)
	}
}

// measure reads what the kernel says of those processes that run on this machine.
func (w *watcher) measure(pods []corev1.Pod) {
	all, err := processes("/proc")
	if err != nil {
		return
	}
	now := time.Now()
	for _, pod := range pods {
		for i, p := range all[string(pod.UID)] {
			// The first process has begun on the node's network.
			if i == 0 && pod.Namespace == w.s.ns && cluster.Ready(&pod) {
				if network, err := p.network(); err == nil {
					w.note(func(w *watcher) { w.networks[network] = pod.Name })
				}
			}
			role := roles[p.program]
			if role == "" {
				continue
			}
			if v, err := p.resident(); err == nil {
				w.add(sample{measure{role, resident}, now, v})
			}
			if v, err := p.files(); err == nil {
				w.add(sample{measure{role, openFiles}, now, v})
			}
		}
	}
}

// scrape reads what the programs say of themselves.
func (w *watcher) scrape(ctx context.Context, pods []corev1.Pod) {
	for _, p := range pods {
		port, role := config.AgentPort, "agent"
		switch {
		case p.Namespace == cluster.SystemNamespace:
			port, role = config.ControllerHTTPPort, "controller"
		case exposed(&p) || p.Labels[config.LabelInjection] == config.InjectionDisabled:
			continue
		}
		status, body, err := w.s.Get(ctx, cluster.Pod{Namespace: p.Namespace, Name: p.Name}, port, "metrics")
		if err != nil || status != http.StatusOK {
			continue // it may be about to end
		}
		now := time.Now()
		for _, m := range []struct {
			name string
			measure
		}{{"go_goroutines", measure{role, goroutines}}, {"envoy_server_memory_allocated", measure{"Envoy", allocated}}} {
			if v, ok := metric(string(body), m.name); ok {
				w.add(sample{m.measure, now, v})
			}
		}
	}
}

func (w *watcher) add(s sample) {
	w.note(func(w *watcher) { w.samples = append(w.samples, s) })
}

// metric is the value of the first series of a name in Prometheus' text format.
func metric(body, name string) (value float64, ok bool) {
	for line := range strings.Lines(body) {
		rest, found := strings.CutPrefix(line, name)
		if !found || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		fields := strings.Fields(rest[strings.LastIndex(rest, "}")+1:])
		if len(fields) == 0 {
			return 0, false
		}
		v, err := strconv.ParseFloat(fields[0], 64)
		return v, err == nil
	}
	return 0, false
}

// checks are what has been seen: sidecars, sync and growth.
func (w *watcher) checks() []check {
	w.mu.Lock()
	defer w.mu.Unlock()
	without := slices.Sorted(maps.Keys(w.exposed))
	out := []check{
		{"pods without their sidecar", strings.TrimSpace(fmt.Sprintf("%d of %d %s", len(without), len(w.seen), strings.Join(without, " "))), "0", len(without) == 0},
		{"slowest time until all sidecars were in sync", short(w.slowestSync), "at most " + syncTime.String(), w.slowestSync <= syncTime},
	}
	for _, f := range flat(w.samples, w.s.began, w.ended) {
		c := check{what: f.role + ", " + f.what, got: f.text(f.before) + " at first, " + f.text(f.after) + " at last", want: "at most " + f.text(f.most), ok: f.ok}
		if !f.judged {
			c.want, c.ok = fmt.Sprintf("not judged in less than %s", leastFlat), true
		}
		out = append(out, c)
	}
	return out
}

// text is a value of the measure.
func (m measure) text(v float64) string {
	if m.bound().unit == "MB" {
		return fmt.Sprintf("%.0f MB", v/1e6)
	}
	return fmt.Sprintf("%.0f", v)
}
