package agent

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"

	"github.com/mizzen-mesh/mizzen/internal/callmetrics"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

// scrapeTimeout bounds Envoy's part of a scrape; Prometheus itself waits 10 s by default.
const scrapeTimeout = 8 * time.Second

// zips are writers for the next scrapes: one has 1.2 MB, and a new one for each scrape would keep the garbage collector at
// work. The level is the lightest, because it needs a fraction of the memory, and the text is repetitive enough.
var zips = sync.Pool{New: func() any {
	zip, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // fails only for a level that does not exist
	return zip
}}

// metrics are the agent's own. All of Envoy's names begin with "envoy_", so names never collide.
type metrics struct {
	registry registry
	scrapes  chan struct{}
	envoyUp  prometheus.Gauge
	restarts prometheus.Counter
	probes   *prometheus.CounterVec
}

// registry has the methods of *prometheus.Registry that the agent needs.
type registry interface {
	prometheus.Registerer
	prometheus.Gatherer
}

func newMetrics(r registry) *metrics {
	m := &metrics{
		registry: r,
		scrapes:  make(chan struct{}, scrapesAtOnce),
		envoyUp: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "mizzen_agent_envoy_up",
			Help: "1 if Envoy answered this scrape, else 0. At 1 Envoy's metrics follow.",
		}),
		restarts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mizzen_agent_envoy_restarts_total",
			Help: "How often Envoy has ended by itself and the agent has started it again. The container's restarts do not count these.",
		}),
		probes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mizzen_agent_app_probes_total",
			Help: "Probes and lifecycle hooks that the agent ran for the kubelet, by result: success, failure, or refused because the caller was not the kubelet.",
		}, []string{"container", "kind", "result"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "mizzen_agent_build_info",
		Help:        "Always 1; the label is the version of the agent.",
		ConstLabels: prometheus.Labels{"version": version.Version},
	})
	build.Set(1)
	m.registry.MustRegister(
		m.envoyUp, m.restarts, m.probes, build,
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return m
}

// serveMetrics answers with one exposition: the agent's metrics, and then Envoy's, those of calls to Services under names of our own. If
// Envoy does not answer, the agent's metrics still come.
func (a *agent) serveMetrics(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), scrapeTimeout)
	defer cancel()
	select {
	case a.metrics.scrapes <- struct{}{}:
		defer func() { <-a.metrics.scrapes }()
	case <-ctx.Done():
		http.Error(w, "too many scrapes at a time, try again", http.StatusServiceUnavailable)
		return
	}
	// A client that does not read must not keep its turn. Only connections of tests have no deadline.
	deadline := http.NewResponseController(w)
	_ = deadline.SetWriteDeadline(time.Now().Add(2 * scrapeTimeout))
	defer func() { _ = deadline.SetWriteDeadline(time.Time{}) }()
	envoy, err := a.openEnvoyMetrics(ctx)
	if err == nil {
		defer envoy.Close()
	}

	w.Header().Set("Content-Type", string(expfmt.NewFormat(expfmt.TypeTextPlain)))
	var out io.Writer = w
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		zip := zips.Get().(*gzip.Writer)
		defer zips.Put(zip)
		zip.Reset(w)
		defer zip.Close()
		out = zip
	}
	if err := a.writeOwnMetrics(out, err == nil); err != nil {
		a.log.Debug("metrics: scrape interrupted", "error", err)
		return
	}
	if envoy == nil {
		return
	}
	node := a.settings.Node
	if err := copyLines(callmetrics.NewWriter(out, node.Namespace, cmp.Or(node.Workload, "Pod/"+node.Pod)), envoy); err != nil {
		a.log.Debug("metrics: scrape interrupted", "error", err)
	}
}

func (a *agent) openEnvoyMetrics(ctx context.Context) (io.ReadCloser, error) {
	res, err := a.admin.open(ctx, http.MethodGet, "/stats/prometheus")
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

func (a *agent) writeOwnMetrics(w io.Writer, envoyUp bool) error {
	a.metrics.envoyUp.Set(0)
	if envoyUp {
		a.metrics.envoyUp.Set(1)
	}
	families, err := a.metrics.registry.Gather()
	if err != nil {
		return err
	}
	enc := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return err
		}
	}
	return nil
}

// copyLines copies whole lines: if Envoy ends in the middle, what Prometheus has read is still valid.
func copyLines(w *callmetrics.Writer, r io.Reader) error {
	in := bufio.NewReaderSize(r, 32<<10)
	var begun []byte // of a line that is longer than the buffer
	for {
		line, err := in.ReadSlice('\n')
		if len(begun) > 0 || errors.Is(err, bufio.ErrBufferFull) {
			begun = append(begun, line...)
			line = begun
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err == io.EOF && len(bytes.TrimSpace(line)) == 0:
			return w.Flush()
		case err != nil:
			return errors.Join(w.Flush(), err)
		}
		if err := w.Line(line); err != nil {
			return err
		}
		begun = begun[:0]
	}
}
