package agent

import (
	"compress/gzip"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/callmetrics"
)

// serveAgent gives the agent's HTTP server without an Envoy, and its URL.
func serveAgent(t *testing.T, probes appprobe.Handlers) string {
	t.Helper()
	s := testSettings("127.0.0.1:1", "127.0.0.1")
	s.Dir, s.Probes, s.ProbeKey = t.TempDir(), probes, "the-key"
	server := httptest.NewServer(newAgent(s, slog.New(slog.DiscardHandler)).handler())
	t.Cleanup(server.Close)
	return server.URL
}

func TestForwardedProbes(t *testing.T) {
	var userAgent string
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if key := r.Header.Get(appprobe.KeyHeader); key != "" {
			t.Errorf("the application sees the key %q", key)
		}
		userAgent = r.UserAgent()
		if r.URL.Path != "/ok" {
			w.WriteHeader(http.StatusInternalServerError)
		}
	}))
	t.Cleanup(app.Close)
	get := func(addr net.Addr, path string) appprobe.Handler {
		port := int32(netip.MustParseAddrPort(addr.String()).Port())
		return appprobe.Handler{HTTPGet: &appprobe.HTTPGet{Path: path, Port: port}}
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	fine, broken, refused := get(app.Listener.Addr(), "/ok"), get(app.Listener.Addr(), "/broken"), get(gone.Listener.Addr(), "/")
	base := serveAgent(t, appprobe.Handlers{
		appprobe.Path("app", appprobe.Liveness):      fine,
		appprobe.Path("app", appprobe.Readiness):     broken,
		appprobe.Path("app", appprobe.Startup):       refused,
		appprobe.Path("app", appprobe.PostStart):     broken,
		appprobe.Path("app", appprobe.PreStop):       refused,
		appprobe.Path("sidecar", appprobe.Readiness): fine,
	})
	for _, tt := range []struct {
		name, path string
		status     int // 0: no answer at all
		body       string
	}{
		{"success", "/app-health/app/livez", 200, "ok"},
		{"success of another container", "/app-health/sidecar/readyz", 200, "ok"},
		{"the application's own status", "/app-health/app/readyz", 500, "statuscode: 500"},
		{"nobody listens", "/app-health/app/startupz", 307, "Temporary Redirect"},
		{"a hook's status does not matter", "/app-health/app/poststart", 200, "ok"},
		{"a hook where nobody listens", "/app-health/app/prestop", 307, "Temporary Redirect"},
		{"no such probe", "/app-health/sidecar/livez", 404, ""},
		{"no such path", "/app-health/", 404, ""},
		{"not ready without Envoy", "/readyz", 503, "Envoy does not answer yet"},
		{"well without Envoy", "/healthz", 200, "ok"},
		{"nothing else", "/", 404, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+tt.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("User-Agent", "kube-probe/1.37")
			req.Header.Set(appprobe.KeyHeader, "the-key")
			status, body := 0, ""
			if res, err := http.DefaultTransport.RoundTrip(req); err != nil {
				body = err.Error()
			} else {
				defer res.Body.Close()
				b, _ := io.ReadAll(res.Body)
				status, body = res.StatusCode, string(b)
			}
			if status != tt.status || !strings.Contains(body, tt.body) {
				t.Errorf("got %d %q, want %d %q", status, body, tt.status, tt.body)
			}
		})
	}
	if userAgent != "kube-probe/1.37" {
		t.Errorf("the application saw User-Agent %q, want the kubelet's", userAgent)
	}
	families := scrape(t, base, "")
	if got := len(families["mizzen_agent_app_probes_total"].GetMetric()); got != 6 {
		t.Errorf("%d series of mizzen_agent_app_probes_total, want 6", got)
	}
}

// Probes and hooks are the kubelet's alone.
func TestForwardedProbesAreNotForOthers(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the application is called") }))
	t.Cleanup(app.Close)
	port := int32(netip.MustParseAddrPort(app.Listener.Addr().String()).Port())
	hook := appprobe.Handler{HTTPGet: &appprobe.HTTPGet{Path: "/shutdown", Port: port}}
	base := serveAgent(t, appprobe.Handlers{appprobe.Path("app", appprobe.PreStop): hook, appprobe.Path("app", appprobe.Liveness): hook})
	for _, path := range []string{"/app-health/app/prestop", "/app-health/app/livez"} {
		for _, key := range []string{"", "another", "the-key2"} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if key != "" {
				req.Header.Set(appprobe.KeyHeader, key)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != http.StatusForbidden {
				t.Errorf("%s with key %q: %s", path, key, res.Status)
			}
		}
	}
	refused := 0.0
	for _, m := range scrape(t, base, "")["mizzen_agent_app_probes_total"].GetMetric() {
		if label(m, "result") == "refused" {
			refused += m.GetCounter().GetValue()
		}
	}
	if refused != 6 {
		t.Errorf("%v counted as refused, want 6", refused)
	}
}

// scrape reads /metrics with Prometheus' own parser, which refuses anything invalid.
func scrape(t *testing.T, base, encoding string) map[string]*dto.MetricFamily {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept-Encoding", encoding)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got := res.Header.Get("Content-Encoding"); got != encoding {
		t.Errorf("Content-Encoding %q, want %q", got, encoding)
	}
	if got := res.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain; version=0.0.4") {
		t.Errorf("Content-Type %q", got)
	}
	body := io.Reader(res.Body)
	if encoding == "gzip" {
		if body, err = gzip.NewReader(res.Body); err != nil {
			t.Fatal(err)
		}
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func TestMetrics(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", path.Base(r.URL.Path))
		}
	}))
	t.Cleanup(upstream.Close)
	r, proxy := startWithRoute(t, upstream.Listener.Addr(), httpListener, nil)
	res, err := http.Get("http://" + proxy)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	for status := range 100 { // gRPC knows 17
		res, err := http.Post(fmt.Sprintf("http://%s/shop.Cart/%d", proxy, status), "application/grpc", nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	for _, encoding := range []string{"", "gzip"} {
		families := scrape(t, r.base, encoding)
		for _, want := range []string{
			`go_goroutines{}`,
			`process_resident_memory_bytes{}`,
			`mizzen_agent_envoy_up{}`,
			`mizzen_agent_build_info{version}`,
			`envoy_server_live{}`,
			`envoy_control_plane_connected_state{}`,
			`envoy_listener_manager_lds_update_success{}`,
			`envoy_cluster_manager_cds_update_success{}`,
			`envoy_listener_downstream_cx_active{envoy_listener=outbound}`,
			`envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix=outbound_http envoy_response_code_class=2}`,
			`envoy_cluster_membership_healthy{envoy_cluster_name=mizzen-control-plane}`,
			`envoy_cluster_upstream_rq_total{destination_namespace=shop destination_port=8080 destination_service=cart}`,
			`envoy_cluster_upstream_rq_xx{destination_namespace=shop destination_port=8080 destination_service=cart envoy_response_code_class=2}`,
			`mizzen_outbound_requests_total{destination_namespace=shop destination_port=8080 destination_service=cart http_response_status_code=200 source_namespace=shop source_workload=Pod/cart-7d4b9-x2x}`,
			`mizzen_outbound_grpc_errors_total{destination_namespace=shop destination_port=8080 destination_service=cart rpc_response_status_code=UNAVAILABLE source_namespace=shop source_workload=Pod/cart-7d4b9-x2x}`,
			`mizzen_outbound_request_duration_seconds{destination_namespace=shop destination_port=8080 destination_service=cart source_namespace=shop source_workload=Pod/cart-7d4b9-x2x}`,
		} {
			if !hasSeries(families, want) {
				t.Errorf("no series %s (encoding %q)", want, encoding)
			}
		}
		checkCardinality(t, families)
	}
}

// checkCardinality holds what one Service costs. A new Envoy that counts more shows here.
func checkCardinality(t *testing.T, families map[string]*dto.MetricFamily) {
	t.Helper()
	perService, others := 0, 0
	if n := len(families[callmetrics.GRPCErrors].GetMetric()); n != 16 {
		t.Errorf("%d series of gRPC statuses, want 16", n)
	}
	for name, f := range families {
		for _, m := range f.GetMetric() {
			switch {
			case name == callmetrics.GRPCErrors: // those that have been seen
			case label(m, "destination_service") != "":
				perService++
			case strings.HasPrefix(name, "envoy_"):
				others++
			}
		}
	}
	t.Logf("%d series for a Service, %d others of Envoy", perService, others)
	if perService > 45 {
		t.Errorf("%d series for one Service, want at most 45", perService)
	}
	if others > 200 {
		t.Errorf("%d other series of Envoy, want at most 200", others)
	}
	names := slices.Sorted(maps.Keys(families))
	for _, name := range names {
		if strings.Contains(name, "shop") || strings.Contains(name, "worker_") {
			t.Errorf("%s: a name that should be a label, or a series for each worker", name)
		}
	}
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func hasSeries(families map[string]*dto.MetricFamily, want string) bool {
	name, _, _ := strings.Cut(want, "{")
	for _, m := range families[name].GetMetric() {
		var labels []string
		for _, l := range m.GetLabel() {
			text := l.GetName() + "=" + l.GetValue()
			if l.GetName() == "version" {
				text = l.GetName()
			}
			labels = append(labels, text)
		}
		slices.Sort(labels)
		if fmt.Sprintf("%s{%s}", name, strings.Join(labels, " ")) == want {
			return true
		}
	}
	return false
}

func TestMetricsWithoutEnvoy(t *testing.T) {
	families := scrape(t, serveAgent(t, nil), "gzip")
	if v := families["mizzen_agent_envoy_up"].GetMetric()[0].GetGauge().GetValue(); v != 0 {
		t.Errorf("mizzen_agent_envoy_up is %v, want 0", v)
	}
	if families["go_goroutines"] == nil {
		t.Error("the agent's own metrics are missing")
	}
}

func TestCopyLinesKeepsWholeLines(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"whole", "a 1\nb 2\n", "a 1\nb 2\n"},
		{"broken off", "a 1\nb ", "a 1\n"},
		{"empty", "", ""},
		{"long line", strings.Repeat("x", 100<<10) + " 1\ny", strings.Repeat("x", 100<<10) + " 1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			err := copyLines(callmetrics.NewWriter(&out, "shop", "Deployment/web"), strings.NewReader(tt.in))
			if out.String() != tt.want {
				t.Errorf("got %d bytes, want %d", out.Len(), len(tt.want))
			}
			if broken := !strings.HasSuffix(tt.in, "\n") && tt.in != ""; broken != (err != nil) {
				t.Errorf("error %v", err)
			}
		})
	}
}
