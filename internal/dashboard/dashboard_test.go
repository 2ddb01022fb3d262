package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// counting counts the reads.
type counting struct {
	mu              sync.Mutex
	reads, statuses int
	err             error
}

func (c *counting) fails(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

func (c *counting) read() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reads
}

func (c *counting) Traffic(context.Context) (Traffic, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	return Traffic{Seconds: float64(c.reads - 1), Calls: []Call{{From: Workload{"shop", "Deployment/web"}, Namespace: "shop", Service: "cart", Port: 80, PerSecond: 1}}}, c.err
}

func (c *counting) Status(ctx context.Context) (any, error) {
	c.statuses++
	return map[string]int{"asked": c.statuses}, errors.Join(c.err, ctx.Err())
}

func ask(t *testing.T, d *Dashboard, host, path string) *http.Response {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "http://"+host+path, nil)
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, res *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Only who knows the token gets anything, and no page of another host.
func TestHandler(t *testing.T) {
	d := New(Options{Source: &counting{}, Interval: time.Second})
	for name, tt := range map[string]struct {
		host, path string
		status     int
		want       string
	}{
		"the page":            {"127.0.0.1:1", d.Path(), 200, "<title>Mizzen</title>"},
		"by name":             {"localhost:1", d.Path(), 200, "<title>Mizzen</title>"},
		"IPv6":                {"[::1]:1", d.Path(), 200, "<title>Mizzen</title>"},
		"its script":          {"127.0.0.1:1", d.Path() + "app.js", 200, "use strict"},
		"its data":            {"127.0.0.1:1", d.Path() + "api/traffic", 200, `"graph":{"nodes":[],"edges":[]},"calls":[]`},
		"status":              {"127.0.0.1:1", d.Path() + "api/status", 200, `{"asked":1}`},
		"without the token":   {"127.0.0.1:1", "/", 404, ""},
		"with another":        {"127.0.0.1:1", "/" + strings.Repeat("A", 26) + "/api/traffic", 404, ""},
		"as another host":     {"attacker.example.com", d.Path(), 403, "localhost"},
		"as another address":  {"192.0.2.1:1", d.Path() + "api/traffic", 403, "localhost"},
		"what is not there":   {"127.0.0.1:1", d.Path() + "secret", 404, ""},
		"what is outside":     {"127.0.0.1:1", d.Path() + "..%2fgraph.go", 404, ""},
		"by the name's start": {"localhost.example.com:1", d.Path(), 403, "localhost"},
	} {
		t.Run(name, func(t *testing.T) {
			res := ask(t, d, tt.host, tt.path)
			if got := text(t, res); res.StatusCode != tt.status || !strings.Contains(got, tt.want) {
				t.Errorf("%d %q, want %d with %q", res.StatusCode, got, tt.status, tt.want)
			}
			if csp := res.Header.Get("Content-Security-Policy"); tt.status == 200 && !strings.Contains(csp, "default-src 'self'") {
				t.Errorf("Content-Security-Policy %q", csp)
			}
		})
	}
}

// The traffic is read while somebody looks, and not any more some time after. A read that fails keeps what there was.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := &counting{}
		d := New(Options{Source: source, Interval: time.Second})
		ctx, stop := context.WithCancel(t.Context())
		go d.Run(ctx)
		time.Sleep(time.Minute)
		if source.read() != 0 {
			t.Errorf("%d reads while nobody looks", source.read())
		}
		look := func() page {
			var p page
			if err := json.Unmarshal([]byte(text(t, ask(t, d, "localhost", d.Path()+"api/traffic?node="+serviceID("shop", "cart")))), &p); err != nil {
				t.Fatal(err)
			}
			return p
		}
		look()
		time.Sleep(10500 * time.Millisecond)
		if source.read() != 11 {
			t.Errorf("%d reads within ten seconds, want 11", source.read())
		}
		p := look()
		if len(p.Graph.Edges) != 1 || len(p.History) != 10 || p.Error != "" {
			t.Errorf("%+v, want an edge and ten points", p)
		}
		source.fails(errors.New("away"))
		time.Sleep(2 * time.Second)
		if p = look(); p.Error != "away" || len(p.Graph.Edges) != 1 {
			t.Errorf("%+v, want what there was, and why", p)
		}
		source.fails(nil)
		time.Sleep(2 * watched)
		before := source.read()
		time.Sleep(time.Hour)
		if source.read() != before {
			t.Errorf("%d reads within an hour in which nobody looks", source.read()-before)
		}
		if p = look(); len(p.Graph.Edges) > 0 || len(p.History) > 0 || p.Error != "" {
			t.Errorf("%+v, want nothing of an hour ago", p)
		}
		stop()
	})
}

// A page that goes away while the status is read does not spoil it for others.
func TestStatusOfOneWhoLeaves(t *testing.T) {
	d := New(Options{Source: &counting{}, Interval: time.Second})
	ctx, leave := context.WithCancel(t.Context())
	leave()
	r := httptest.NewRequest(http.MethodGet, "http://localhost"+d.Path()+"api/status", nil).WithContext(ctx)
	w := httptest.NewRecorder()
	d.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Errorf("status %d", w.Code)
	}
}

// All pages share a status, for a while.
func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := New(Options{Source: &counting{}, Interval: time.Second})
		for _, want := range []string{"{\"asked\":1}\n", "{\"asked\":1}\n", "{\"asked\":2}\n"} {
			if got := text(t, ask(t, d, "localhost", d.Path()+"api/status")); got != want {
				t.Errorf("%s, want %s", got, want)
			}
			time.Sleep(statusEvery * 2 / 3)
		}
	})
	d := New(Options{Source: &counting{err: errors.New("no rights")}, Interval: time.Second})
	if res := ask(t, d, "localhost", d.Path()+"api/status"); res.StatusCode != http.StatusBadGateway || !strings.Contains(text(t, res), "no rights") {
		t.Errorf("status %d", res.StatusCode)
	}
}
