package dashboard

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// The tests drive the page in a real browser, without a cluster. MIZZEN_BROWSER is the program; without it, one in PATH is taken, and
// without that the tests are skipped, but not in CI.
var browserPrograms = []string{"chromium-headless-shell", "chromium", "google-chrome"}

var screenshots = flag.Bool("screenshots", false, "write the screenshots of docs/images")

// browser returns a context for chromedp with one tab. What scripts do wrong there fails the test.
func browser(t *testing.T) context.Context {
	t.Helper()
	program, wanted := os.LookupEnv("MIZZEN_BROWSER")
	if !wanted {
		for _, name := range browserPrograms {
			if path, err := exec.LookPath(name); err == nil {
				program = path
				break
			}
		}
		if program == "" && os.Getenv("CI") == "true" {
			t.Fatalf("none of %q is in PATH", browserPrograms)
		} else if program == "" {
			t.Skipf("none of %q is in PATH", browserPrograms)
		}
	}
	// Chromium has no sandbox for root.
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.WindowSize(1440, 640))
	ctx, end := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	said := chromedp.Console(ctx)
	do(ctx, t, chromedp.Navigate("about:blank")) // starts the browser, which lives as long as this context
	var listening sync.WaitGroup
	t.Cleanup(listening.Wait)
	listening.Go(func() {
		for m, err := range said {
			switch {
			case err != nil:
				return
			case m.Type == chromedp.ConsoleException, m.Type == chromedp.ConsoleError && !strings.HasSuffix(m.URL, "/favicon.ico"):
				t.Errorf("the browser says: %s %s", m.Text, m.URL)
			}
		}
	})
	t.Cleanup(end)
	return ctx
}

// scene is what the page shows, which a test may change.
type scene struct {
	mu      sync.Mutex
	traffic Traffic
	status  string
	err     error
}

func (s *scene) Traffic(context.Context) (Traffic, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.traffic, s.err
}

func (s *scene) Status(context.Context) (any, error) { return json.RawMessage(s.status), nil }

func (s *scene) set(f func(s *scene)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

const interval = 100 * time.Millisecond

// open opens the page.
func open(t *testing.T, s *scene) context.Context {
	t.Helper()
	ctx := browser(t)
	d := New(Options{Source: s, Interval: interval})
	server := httptest.NewServer(d.Handler())
	t.Cleanup(server.Close)
	running, stop := context.WithCancel(t.Context())
	t.Cleanup(stop)
	go d.Run(running)
	do(ctx, t, chromedp.Navigate(server.URL+d.Path()))
	if len(s.traffic.Calls) > 0 {
		await(ctx, t, `document.querySelectorAll("#drawing .node").length > 0`)
	}
	return ctx
}

func do(ctx context.Context, t *testing.T, actions ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, actions...); err != nil {
		t.Fatal(err)
	}
}

// await waits until an expression is true in the page.
func await(ctx context.Context, t *testing.T, expression string) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !value[bool](ctx, t, expression); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", expression)
		}
	}
}

// value returns what an expression is in the page.
func value[T any](ctx context.Context, t *testing.T, expression string) T {
	t.Helper()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return out
}

// texts returns the text of each element that a selector selects.
func texts(ctx context.Context, t *testing.T, selector string) []string {
	t.Helper()
	return value[[]string](ctx, t, fmt.Sprintf(`[...document.querySelectorAll(%q)].map(e => e.textContent)`, selector))
}

// shop is a mesh in which one thing goes wrong.
func shop() *scene {
	p50, p99, slow := 2.4, 8.1, 740.0
	workload := func(name string) Workload { return Workload{"shop", "Deployment/" + name} }
	service := func(namespace, name string, meshed int) Service {
		return Service{Namespace: namespace, Name: name, Workloads: []Workload{{namespace, "Deployment/" + name}}, Pods: 2, Meshed: meshed}
	}
	return &scene{
		traffic: Traffic{
			Seconds:  5,
			Services: []Service{service("shop", "web", 2), service("shop", "cart", 2), service("shop", "prices", 1), service("bank", "ledger", 2)},
			Calls: []Call{
				{From: Workload{"edge", "Gateway/public"}, Namespace: "shop", Service: "web", Port: 80, Requests: 200, PerSecond: 40, P50: &p50, P99: &p99, Open: 12},
				{From: workload("web"), Namespace: "shop", Service: "cart", Port: 8080, Requests: 150, Failed: 30, PerSecond: 30, P50: &p50, P99: &slow, Why: "UNAVAILABLE 20 %", Retries: 7, Open: 2},
				{From: workload("web"), Namespace: "shop", Service: "prices", Port: 80, Requests: 400, Failed: 1, PerSecond: 80, P50: &p50, P99: &p99, Open: 4},
				{From: workload("cart"), Namespace: "bank", Service: "ledger", Port: 5432, Open: 3, Bytes: 48_000},
			},
			Missing: []string{"pod shop/old-1 could not be asked: it does not answer"},
		},
		status: `{"checks": [
			{"name": "control plane", "state": "ok", "text": "2 of 2 replicas are ready"},
			{"name": "proxies", "state": "error", "text": "1 of 9 is not connected", "details": [
				{"state": "error", "object": "Pod shop/old-1", "text": "not connected", "help": "kubectl -n shop describe pod old-1"}]}]}`,
	}
}

func TestPageShowsTheMesh(t *testing.T) {
	ctx := open(t, shop())
	nodes := value[[]string](ctx, t, `[...document.querySelectorAll("#drawing .node")].map(e => e.getAttribute("aria-label"))`)
	want := []string{"ledger, bank · 2 pods", "cart, shop · 2 pods", "prices, shop · 2 pods", "web, shop · 2 pods", "Gateway/public, edge"}
	if strings.Join(nodes, "|") != strings.Join(want, "|") {
		t.Errorf("nodes %q, want %q", nodes, want)
	}
	edges := texts(ctx, t, "#drawing > text.label tspan, #drawing g > title")
	for _, text := range []string{
		"40/s 100 %, p99 8.1 ms, mTLS", "30/s 80 %, p99 740 ms, mTLS", "80/s 99.75 %, p99 8.1 ms, mTLS to some pods", "3 open, 48.0 kB, mTLS", // for screen readers
		"30/s 80 %", "p99 740 ms, mTLS", "3 open, 48.0 kB",
	} {
		if !slices.Contains(edges, text) {
			t.Errorf("no edge says %q: %q", text, edges)
		}
	}
	if got := value[map[string]int](ctx, t, `Object.fromEntries(["good", "poor", "bad"].map(q => [q, document.querySelectorAll("#drawing .edge." + q).length]))`); got["good"] != 1 || got["poor"] != 1 || got["bad"] != 1 {
		t.Errorf("edges by how they go: %v, want one of each", got)
	}
	if !value[bool](ctx, t, fmt.Sprintf(apart, "#drawing .node rect, #drawing > text.label")) {
		t.Error("labels lie on one another, or on nodes")
	}
	await(ctx, t, `document.getElementById("state").textContent === "✗ look at: proxies"`)
	if got := texts(ctx, t, "#missing li"); len(got) != 1 || !strings.Contains(got[0], "shop/old-1") {
		t.Errorf("what is missing: %q", got)
	}

	do(ctx, t, chromedp.Click(chromedp.CSS(`[data-id="service/shop/cart"]`)))
	await(ctx, t, `document.querySelector("#details h2")?.textContent === "Service shop/cart"`)
	if !value[bool](ctx, t, `(() => { const box = document.querySelector("#drawing .chosen").getBoundingClientRect(), of = document.getElementById("graph").getBoundingClientRect(); return box.left >= of.left && box.right <= of.right; })()`) {
		t.Error("the chosen node is out of sight")
	}
	details := value[string](ctx, t, `document.getElementById("details").innerText`)
	for _, text := range []string{"2 pods, 2 with an identity of the mesh: Deployment/cart", "UNAVAILABLE 20 %", "740 ms", "bank/ledger:5432", "mizzenctl routes cart.shop"} {
		if !strings.Contains(details, text) {
			t.Errorf("the details do not say %q:\n%s", text, details)
		}
	}
	// The past comes with the next answer.
	await(ctx, t, `document.getElementById("details").innerText.includes("Requests a second, last")`)
	await(ctx, t, `document.querySelector("#details svg").getAttribute("aria-label") === "from 30 to 30, at most 30"`)
	do(ctx, t, chromedp.Click(chromedp.CSS(`#details .close`)))
	await(ctx, t, `document.getElementById("details").hidden`)

	do(ctx, t, chromedp.Click(chromedp.CSS(`#tab-calls`)))
	rows := texts(ctx, t, "#calls tbody tr")
	if len(rows) != 4 || !slices.Contains(rows, "shop/cart:8080shop/Deployment/web3080 %2.4 ms740 ms72UNAVAILABLE 20 %") {
		t.Errorf("calls: %q", rows)
	}
	do(ctx, t, chromedp.Click(chromedp.CSS(`#failing`)))
	if rows := texts(ctx, t, "#calls tbody tr"); len(rows) != 2 {
		t.Errorf("calls that fail: %q, want two", rows)
	}
	do(ctx, t, chromedp.Click(chromedp.CSS(`#tab-mesh`)))
	mesh := value[string](ctx, t, `document.getElementById("mesh").innerText`)
	for _, text := range []string{"2 of 2 replicas are ready", "Pod shop/old-1", "kubectl -n shop describe pod old-1"} {
		if !strings.Contains(mesh, text) {
			t.Errorf("the state of the mesh does not say %q:\n%s", text, mesh)
		}
	}
}

// apart says that none of the elements that a selector selects lies on another.
const apart = `(() => {
	const boxes = [...document.querySelectorAll(%q)].map(e => e.getBoundingClientRect());
	return boxes.every((a, i) => boxes.every((b, j) => j <= i || a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top));
})()`

func TestPageFilters(t *testing.T) {
	ctx := open(t, shop())
	shown := func() string {
		return strings.Join(value[[]string](ctx, t, `[...document.querySelectorAll("#drawing .node")].map(e => e.dataset.id)`), " ")
	}
	choose := func(namespace string) {
		value[bool](ctx, t, fmt.Sprintf(`(e => { e.value = %q; return e.dispatchEvent(new Event("input")); })(document.getElementById("namespace"))`, namespace))
	}
	choose("bank")
	if got := shown(); got != "service/bank/ledger service/shop/cart" {
		t.Errorf("of namespace bank: %s", got)
	}
	choose("")
	do(ctx, t, chromedp.SendKeys(chromedp.CSS(`#search`), "PRIC"))
	if got := shown(); got != "service/shop/prices service/shop/web" {
		t.Errorf("by a part of a name: %s", got)
	}
	do(ctx, t, chromedp.SendKeys(chromedp.CSS(`#search`), "xyz"))
	await(ctx, t, `!document.getElementById("empty").hidden && document.getElementById("empty").textContent === "Nothing matches the filters."`)
}

// Everything can be reached and chosen with the keyboard.
func TestPageByKeyboard(t *testing.T) {
	ctx := open(t, shop())
	focused := func() string {
		return value[string](ctx, t, `document.activeElement.id || document.activeElement.dataset.id || document.activeElement.tagName`)
	}
	var order []string
	for range 9 {
		do(ctx, t, chromedp.KeyEvent(kb.Tab))
		order = append(order, focused())
	}
	want := "namespace search failing tab-graph service/bank/ledger service/shop/cart service/shop/prices service/shop/web workload/edge/Gateway/public"
	if strings.Join(order, " ") != want {
		t.Errorf("the order of Tab: %q, want %s", order, want)
	}
	do(ctx, t, chromedp.KeyEvent(kb.Enter))
	await(ctx, t, `document.querySelector("#details h2")?.textContent === "Workload edge/Gateway/public"`)
	if got := value[string](ctx, t, `document.querySelector('[data-id="workload/edge/Gateway/public"]').getAttribute("aria-pressed")`); got != "true" {
		t.Errorf("aria-pressed is %s", got)
	}
	// The page draws anew, and the focus stays.
	at := value[string](ctx, t, `document.getElementById("time").textContent + JSON.stringify(data.at)`)
	await(ctx, t, fmt.Sprintf(`document.getElementById("time").textContent + JSON.stringify(data.at) !== %q`, at))
	if got := focused(); got != "workload/edge/Gateway/public" {
		t.Errorf("the focus went to %s", got)
	}
	do(ctx, t, chromedp.Focus(chromedp.CSS(`#tab-graph`)), chromedp.KeyEvent(kb.ArrowRight))
	if got := focused(); got != "tab-calls" || value[bool](ctx, t, `document.getElementById("calls").hidden`) {
		t.Errorf("the arrow goes to %s", got)
	}
}

// Names come from the cluster, where others write them: they are text, and never markup.
func TestPageTakesNamesForText(t *testing.T) {
	s := shop()
	const name = `<img src=x onerror="window.taken=1"><b>`
	s.traffic.Calls = append(s.traffic.Calls, Call{From: Workload{"shop", name}, Namespace: name, Service: name, Port: 1, Requests: 1, Failed: 1, PerSecond: 1, Why: name})
	s.traffic.Missing = []string{name}
	ctx := open(t, s)
	for _, view := range []string{"#tab-calls", "#tab-mesh", "#tab-graph"} {
		do(ctx, t, chromedp.Click(chromedp.CSS(view)))
	}
	value[bool](ctx, t, fmt.Sprintf(`choose(%q) === undefined`, serviceID(name, name)))
	await(ctx, t, `document.querySelector("#details h2")?.textContent.includes("<img")`)
	if value[bool](ctx, t, `window.taken === 1 || document.querySelector("main img, main b, footer img") !== null`) {
		t.Error("a name was read as HTML")
	}
}

// What is not up to date is said, and what there was stays. The page goes on by itself.
func TestPageSaysWhatIsOld(t *testing.T) {
	s := shop()
	ctx := open(t, s)
	s.set(func(s *scene) { s.err = errors.New("the API server does not answer") })
	await(ctx, t, `!document.getElementById("problem").hidden && document.getElementById("problem").textContent.includes("the API server does not answer")`)
	if n := value[int](ctx, t, `document.querySelectorAll("#drawing .node").length`); n != 5 {
		t.Errorf("%d nodes, want what there was", n)
	}
	s.set(func(s *scene) { s.err = nil })
	await(ctx, t, `document.getElementById("problem").hidden`)
}

// Three hundred Services stay legible: first by namespace, then those of one, and one with its neighbours.
func TestPageWithManyServices(t *testing.T) {
	s := &scene{status: `{"checks": []}`, traffic: Traffic{Seconds: 5}}
	for i := range 300 {
		ns, name := fmt.Sprintf("team-%02d", i%12), fmt.Sprintf("service-%03d", i)
		w := Workload{ns, "Deployment/" + name}
		s.traffic.Services = append(s.traffic.Services, Service{Namespace: ns, Name: name, Workloads: []Workload{w}, Pods: 2, Meshed: 2})
		for _, to := range []int{(i*7 + 1) % 300, (i*13 + 5) % 300} {
			s.traffic.Calls = append(s.traffic.Calls, Call{From: w, Namespace: fmt.Sprintf("team-%02d", to%12), Service: fmt.Sprintf("service-%03d", to), Port: 80, Requests: 50, PerSecond: 10})
		}
	}
	ctx := open(t, s)
	check := func(what string, most int) {
		t.Helper()
		if n := value[int](ctx, t, `document.querySelectorAll("#drawing .node").length`); n == 0 || n > most {
			t.Errorf("%s: %d nodes, want some, and at most %d", what, n, most)
		}
		if !value[bool](ctx, t, fmt.Sprintf(apart, "#drawing .node rect")) {
			t.Errorf("%s: nodes lie on one another", what)
		}
	}
	check("by namespace", 12)
	took := value[float64](ctx, t, `(() => { const begun = performance.now(); draw(); return performance.now() - begun; })()`)
	t.Logf("drawn in %.1f ms", took)
	do(ctx, t, chromedp.Click(chromedp.CSS(`[data-id="namespace/team-03"]`)))
	check("one namespace", 25+11)
	do(ctx, t, chromedp.Click(chromedp.CSS(`[data-id="service/team-03/service-003"]`)))
	await(ctx, t, `document.querySelector("#details h2")?.textContent === "Service team-03/service-003"`)
	if n := value[int](ctx, t, `document.querySelectorAll("#calls tbody tr").length`); n != 0 {
		t.Errorf("a view that is not shown has %d rows", n)
	}
}

// Text can be read in both of the colour schemes: WCAG 2.2 asks for a contrast of 4.5.
func TestPageContrast(t *testing.T) {
	s := shop()
	ctx := open(t, s)
	const least = `(() => {
		const rgb = c => c.match(/[\d.]+/g).slice(0, 3).map(Number);
		const light = c => { const [r, g, b] = rgb(c).map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
		const behind = e => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (c !== "rgba(0, 0, 0, 0)") return c; } return "rgb(255, 255, 255)"; };
		let worst = {ratio: 99};
		for (const e of document.querySelectorAll("body *")) {
			const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim() !== "");
			if (!own || e.tagName === "TITLE" || e.getClientRects().length === 0) continue;
			const svg = e.namespaceURI.endsWith("svg");
			const on = svg && e.closest(".node") ? getComputedStyle(e.closest(".node").querySelector("rect")).fill : behind(e);
			const [a, b] = [light(svg ? getComputedStyle(e).fill : getComputedStyle(e).color), light(on)].sort((x, y) => y - x);
			const ratio = (a + 0.05) / (b + 0.05);
			if (ratio < worst.ratio) worst = {ratio, text: e.textContent, view: e.closest("section")?.id};
		}
		return worst;
	})()`
	for _, scheme := range []string{"light", "dark"} {
		if _, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}}); err != nil {
			t.Fatal(err)
		}
		for _, view := range []string{"graph", "calls", "mesh"} {
			do(ctx, t, chromedp.Click(chromedp.CSS("#tab-"+view)))
			got := value[struct {
				Ratio float64
				Text  string
			}](ctx, t, least)
			t.Logf("%s, %s: %.1f, of %q", scheme, view, got.Ratio, got.Text)
			if got.Ratio < 4.5 {
				t.Errorf("%s, %s: the contrast of %q is %.2f, want at least 4.5", scheme, view, got.Text, got.Ratio)
			}
		}
		if *screenshots {
			screenshot(ctx, t, scheme)
		}
	}
}

// screenshot writes the graph with the details of what goes wrong.
func screenshot(ctx context.Context, t *testing.T, scheme string) {
	t.Helper()
	do(ctx, t, chromedp.Click(chromedp.CSS("#tab-graph")), chromedp.Click(chromedp.CSS(`[data-id="service/shop/cart"]`)))
	await(ctx, t, `document.querySelector("#details h2") !== null && data.history.length > 20`)
	value[bool](ctx, t, `document.activeElement.blur() === undefined`)
	png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	do(ctx, t, chromedp.Click(chromedp.CSS(`#details .close`)))
	if err := os.WriteFile(filepath.Join("..", "..", "docs", "images", "dashboard-"+scheme+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}
