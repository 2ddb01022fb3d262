package xds_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// backend is a server that says what it was sent.
type backend struct {
	address netip.AddrPort
	calls   atomic.Int32
	last    atomic.Pointer[http.Request]
	answer  http.HandlerFunc
}

func startBackend(t *testing.T, answer http.HandlerFunc) *backend {
	t.Helper()
	b := &backend{answer: answer}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.address = l.Addr().(*net.TCPAddr).AddrPort()
	server := &http.Server{Handler: b, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return b
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.calls.Add(1)
	b.last.Store(r)
	w.Header().Set("x-answer", "server")
	if b.answer != nil {
		b.answer(w, r)
		return
	}
	fmt.Fprintf(w, "%s%s", r.Host, r.RequestURI)
}

// runRoute starts Envoy with a route of a kind on Service cart:80 and one backend for each name. It gives
// the address.
func runRoute(t *testing.T, kind mesh.Kind, rules string, backends map[string]*backend, annotations ...string) string {
	t.Helper()
	in := mesh.RouteInputs{Services: map[mesh.Key]*mesh.Service{parent: service("cart")}}
	var clusters []*clusterv3.Cluster
	for name, b := range backends {
		svc := service(name)
		in.Services[svc.Key] = svc
		for _, r := range envoy.ServiceResources(svc, nil, configtest.WithoutIdentity()) {
			if c, ok := r.Message.(*clusterv3.Cluster); ok && strings.HasPrefix(r.Name, "outbound/") {
				clusters = append(clusters, static(c, b.address, svc.Key))
			}
		}
	}
	object := []byte("metadata: {name: r, namespace: shop, annotations: {" + strings.Join(annotations, ", ") + "}}\nspec:\n  parentRefs: [{group: '', kind: Service, name: cart}]\n  rules:\n" + rules)
	if kind == mesh.KindGRPCRoute {
		in.GRPCRoutes = []*gatewayv1.GRPCRoute{decode[gatewayv1.GRPCRoute](t, object)}
	} else {
		in.HTTPRoutes = []*gatewayv1.HTTPRoute{decode[gatewayv1.HTTPRoute](t, object)}
	}
	built, statuses := mesh.BuildRoutes(parent, in)
	for _, c := range statuses[0].Conditions {
		if c.Type != gatewayv1.RouteConditionResolvedRefs && c.True != (c.Type == gatewayv1.RouteConditionAccepted) {
			t.Fatalf("%s: %s", c.Type, c.Message)
		}
	}
	for _, r := range mirrorClusters(built) {
		c := r.Message.(*clusterv3.Cluster)
		name := strings.Split(c.EdsClusterConfig.ServiceName, "/")[2]
		clusters = append(clusters, static(endCopies(t, c), backends[name].address, service(name).Key))
	}
	host := virtualHost(t, built[80].For("anybody"))
	return startEnvoy(t, &routev3.RouteConfiguration{Name: "r", VirtualHosts: []*routev3.VirtualHost{host}}, clusters...)
}

// endCopies makes the end of mirrored requests one that a test can wait for.
func endCopies(t *testing.T, c *clusterv3.Cluster) *clusterv3.Cluster {
	t.Helper()
	options := &upstreamhttpv3.HttpProtocolOptions{}
	for name, packed := range c.TypedExtensionProtocolOptions {
		if err := packed.UnmarshalTo(options); err != nil {
			t.Fatal(err)
		}
		if d := options.CommonHttpProtocolOptions.MaxStreamDuration; d.AsDuration() <= 0 || d.AsDuration() > time.Minute {
			t.Fatalf("%s: copies end after %v", c.Name, d)
		}
		options.CommonHttpProtocolOptions.MaxStreamDuration = durationpb.New(time.Second)
		c.TypedExtensionProtocolOptions[name] = pack(t, options)
	}
	return c
}

func decode[T any](t *testing.T, b []byte) *T {
	t.Helper()
	var o T
	if err := yaml.UnmarshalStrict(b, &o); err != nil {
		t.Fatal(err)
	}
	return &o
}

// static is a cluster with its endpoint inline.
func static(c *clusterv3.Cluster, address netip.AddrPort, key mesh.Key) *clusterv3.Cluster {
	resources := envoy.EndpointResources(service(key.Name), mesh.EndpointsKey{Service: key, Port: 80, Family: mesh.IPv4},
		[]mesh.Endpoint{{Addr: address}})
	c.ClusterDiscoveryType, c.EdsClusterConfig = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, nil
	c.LoadAssignment = resources[0].Message.(*endpointv3.ClusterLoadAssignment)
	return c
}

// The tables of the specification: https://gateway-api.sigs.k8s.io/reference/spec/#httppathmodifier
func TestPathsAndLocations(t *testing.T) {
	b := startBackend(t, nil)
	var rules strings.Builder
	rewrite := func(prefix, kind, value string) {
		fmt.Fprintf(&rules, "  - {matches: [{path: {value: %q}}], filters: [{type: URLRewrite, urlRewrite: {path: {type: %s, %s: %q}}}], backendRefs: [{name: cart, port: 80}]}\n",
			prefix, kind, strings.ToLower(kind[:1])+kind[1:], value)
	}
	for i, to := range []string{"/xyz", "/xyz/", "", "/"} {
		rewrite(fmt.Sprintf("/p%d", i), "ReplacePrefixMatch", to)
		rewrite(fmt.Sprintf("/s%d/", i), "ReplacePrefixMatch", to)
	}
	rewrite("/full", "ReplaceFullPath", "/a.b")
	redirect := func(path, settings string) {
		fmt.Fprintf(&rules, "  - {matches: [{path: {value: %q}}], filters: [{type: RequestRedirect, requestRedirect: {%s}}]}\n", path, settings)
	}
	redirect("/r-host", "hostname: example.com, statusCode: 301")
	redirect("/r-https", "scheme: https")
	redirect("/r-port", "port: 8083")
	redirect("/r-port-host", "port: 8083, hostname: example.com")
	redirect("/r-port-implied", "scheme: https, port: 443, hostname: example.com")
	redirect("/r-full", "path: {type: ReplaceFullPath, replaceFullPath: /new}")
	redirect("/r-prefix", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}")
	redirect("/r-strip", "path: {type: ReplacePrefixMatch, replacePrefixMatch: /}")
	rules.WriteString("  - {matches: [{path: {value: /h}}], filters: [{type: URLRewrite, urlRewrite: {hostname: other.example}}], backendRefs: [{name: cart, port: 80}]}\n")
	rewrite("/", "ReplacePrefixMatch", "/base")

	// Sixteen rules are the most of one object, but not of the model.
	address := runRoute(t, mesh.KindHTTPRoute, rules.String(), map[string]*backend{"cart": b})
	for _, c := range []struct{ path, want string }{
		{"/p0/bar", "cart/xyz/bar"}, {"/p1/bar", "cart/xyz/bar"}, {"/s0/bar", "cart/xyz/bar"}, {"/s1/bar", "cart/xyz/bar"},
		{"/p0", "cart/xyz"}, {"/p0/", "cart/xyz/"}, {"/p0/bar?q=1", "cart/xyz/bar?q=1"},
		{"/p2/bar", "cart/bar"}, {"/p2/", "cart/"}, {"/p2", "cart/"}, {"/p2?q=1", "cart/?q=1"},
		{"/p3/bar", "cart/bar"}, {"/p3/", "cart/"}, {"/p3", "cart/"}, {"/s3/bar", "cart/bar"},
		{"/full/x/y?q=1", "cart/a.b?q=1"}, {"/h/x", "other.example/h/x"},
		{"/", "cart/base/"}, {"/x/y", "cart/base/x/y"}, {"/p00", "cart/base/p00"},
		{"/r-host/x?q=1", "301 http://example.com/r-host/x?q=1"},
		{"/r-https/x", "302 https://cart/r-https/x"},
		{"/r-port", "302 http://cart:8083/r-port"},
		{"/r-port-host", "302 http://example.com:8083/r-port-host"},
		{"/r-port-implied", "302 https://example.com/r-port-implied"},
		{"/r-full/x", "302 http://cart/new"},
		{"/r-prefix/x", "302 http://cart/new/x"},
		{"/r-strip/x", "302 http://cart/x"}, {"/r-strip", "302 http://cart/"},
	} {
		res, body := send(t, address, "cart", mesh.Request{Method: "GET", Path: c.path})
		got := body
		if location := res.Header.Get("Location"); location != "" {
			got = fmt.Sprintf("%d %s", res.StatusCode, location)
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.path, got, c.want)
		}
	}
}

func TestHeadersMirrorsAndShares(t *testing.T) {
	cart, v2 := startBackend(t, nil), startBackend(t, nil)
	address := runRoute(t, mesh.KindHTTPRoute, `
  - matches: [{path: {value: /headers}}]
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: "100% %REQ(x)%"}], add: [{name: X-Add, value: b}], remove: [X-Remove]}}
    - {type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: X-Answer, value: route}]}}
    backendRefs: [{name: cart, port: 80}]
  - matches: [{path: {value: /own}}]
    filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: rule}, {name: X-Gone, value: rule}]}}]
    backendRefs:
    - name: cart
      port: 80
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Set, value: backend}], add: [{name: X-Add, value: c}], remove: [X-Gone]}}]
    - {name: v2, port: 80, weight: 0}
  - matches: [{path: {value: /mirror}}]
    filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}]
    backendRefs: [{name: cart, port: 80}]
  - matches: [{path: {value: /half}}]
    backendRefs: [{name: cart, port: 80}, {name: gone, port: 80}]
  - matches: [{headers: [{name: Host, value: by-host.example}]}]
    filters: [{type: RequestRedirect, requestRedirect: {hostname: found.example, statusCode: 301}}]
  - matches: [{path: {value: /none}}]
    backendRefs: [{name: gone, port: 80}]
`, map[string]*backend{"cart": cart, "v2": v2})
	get := func(path string) *http.Response {
		res, _ := send(t, address, "cart", mesh.Request{Method: "GET", Path: path, Headers: map[string][]string{
			"x-set": {"client"}, "x-add": {"a"}, "x-remove": {"r"}, "x-gone": {"g"},
		}})
		return res
	}
	check := func(name string, got, want any) {
		t.Helper()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	res := get("/headers")
	sent := cart.last.Load().Header
	check("set", sent.Get("X-Set"), "100% %REQ(x)%")
	check("add", strings.Join(sent["X-Add"], ","), "a,b")
	check("remove", sent["X-Remove"], "[]")
	check("answer", res.Header["X-Answer"], "[route]")
	get("/own")
	sent = cart.last.Load().Header
	check("backend's set after the rule's", sent["X-Set"], "[backend]")
	check("backend's add", strings.Join(sent["X-Add"], ","), "a,c")
	check("backend's remove after the rule's set", sent["X-Gone"], "[]")

	get("/mirror/x?q=1")
	for deadline := time.Now().Add(5 * time.Second); v2.last.Load() == nil && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if copied := v2.last.Load(); copied == nil {
		t.Error("nothing was mirrored")
	} else {
		check("mirrored", copied.Host+copied.RequestURI, "cart/mirror/x?q=1")
	}
	statuses := map[int]int{}
	for range 400 {
		statuses[get("/half").StatusCode]++
	}
	if n := statuses[500]; n < 140 || n > 260 || n+statuses[200] != 400 {
		t.Errorf("one of two backends is invalid: %v of 400", statuses)
	}
	check("no valid backend", get("/none").StatusCode, 500)
	res, _ = send(t, address, "by-host.example", mesh.Request{Method: "GET", Path: "/other"})
	check("by the header Host", res.StatusCode, 301)
	check("no rule", get("/other").StatusCode, 404)
}

func TestTimeoutsAndRetries(t *testing.T) {
	cart := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/fail"), strings.HasPrefix(r.URL.Path, "/no-retry"):
			w.WriteHeader(503)
		case strings.HasPrefix(r.URL.Path, "/slow"):
			select {
			case <-r.Context().Done():
			case <-time.After(5 * time.Second):
			}
		}
	})
	address := runRoute(t, mesh.KindHTTPRoute, `
  - {matches: [{path: {value: /slow}}], timeouts: {request: 200ms}, backendRefs: [{name: cart, port: 80}]}
  - {matches: [{path: {value: /slow-try}}], timeouts: {backendRequest: 100ms}, retry: {attempts: 2, backoff: 1ms}, backendRefs: [{name: cart, port: 80}]}
  - {matches: [{path: {value: /fail}}], retry: {attempts: 3, codes: [503], backoff: 1ms}, backendRefs: [{name: cart, port: 80}]}
  - {matches: [{path: {value: /no-retry}}], backendRefs: [{name: cart, port: 80}]}
`, map[string]*backend{"cart": cart})
	for _, c := range []struct {
		path   string
		status int
		calls  int32
		most   time.Duration
	}{
		{"/slow", 504, 1, 2 * time.Second},
		{"/slow-try", 504, 3, 3 * time.Second},
		{"/fail", 503, 4, 2 * time.Second},
		{"/no-retry", 503, 1, 2 * time.Second},
	} {
		cart.calls.Store(0)
		begin := time.Now()
		res, _ := send(t, address, "cart", mesh.Request{Method: "GET", Path: c.path})
		if took := time.Since(begin); res.StatusCode != c.status || cart.calls.Load() != c.calls || took > c.most {
			t.Errorf("%s: %d after %d calls and %v, want %d after %d", c.path, res.StatusCode, cart.calls.Load(), took, c.status, c.calls)
		}
	}

	// Under a storm the budget holds: 20 % of the active requests, and three.
	cart.calls.Store(0)
	const clients, each = 40, 25
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range each {
				send(t, address, "cart", mesh.Request{Method: "GET", Path: "/fail"})
			}
		})
	}
	wg.Wait()
	if calls := cart.calls.Load(); calls > clients*each*3/2 {
		t.Errorf("%d calls made %d at the backend", clients*each, calls)
	} else {
		t.Logf("%d calls made %d at the backend", clients*each, calls)
	}
}

// TestGRPCDeadlines: of the rule's timeout and the client's grpc-timeout the smaller wins, also for a
// stream whose client has not ended its side.
func TestGRPCDeadlines(t *testing.T) {
	const timeout = 400 * time.Millisecond
	cart := startBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(5 * time.Second):
		}
	})
	backends := map[string]*backend{"cart": cart}
	for kind, address := range map[mesh.Kind]string{
		mesh.KindHTTPRoute: runRoute(t, mesh.KindHTTPRoute, "  - {timeouts: {request: 400ms}, backendRefs: [{name: cart, port: 80}]}\n", backends),
		mesh.KindGRPCRoute: runRoute(t, mesh.KindGRPCRoute, "  - {name: bounded, backendRefs: [{name: cart, port: 80}]}\n", backends,
			"mizzen.dev/timeout.bounded: 400ms", "mizzen.dev/timeout: 1h"),
	} {
		for deadline, want := range map[string]time.Duration{"": timeout, "100m": 100 * time.Millisecond, "1H": timeout} {
			begin := time.Now()
			status := callGRPC(t, address, deadline)
			if took := time.Since(begin); status != "4" || took < want-20*time.Millisecond || took > want+time.Second {
				t.Errorf("%s, grpc-timeout %q: status %q after %v, want 4 (DEADLINE_EXCEEDED) after %v", kind, deadline, status, took, want)
			}
		}
	}
}

// "all traffic which matches this rule MUST receive an UNAVAILABLE status", and so must its share.
func TestGRPCWithoutBackend(t *testing.T) {
	cart := startBackend(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Grpc-Status", "0") })
	address := runRoute(t, mesh.KindGRPCRoute, `
  - {matches: [{method: {service: shop.Cart, method: Watch}}], backendRefs: [{name: gone, port: 80}]}
`, map[string]*backend{"cart": cart})
	if status := callGRPC(t, address, ""); status != "14" {
		t.Errorf("no valid backend: status %q, want 14 (UNAVAILABLE)", status)
	}
	address = runRoute(t, mesh.KindGRPCRoute, `
  - {matches: [{method: {service: shop.Cart}}], backendRefs: [{name: cart, port: 80}, {name: gone, port: 80}]}
`, map[string]*backend{"cart": cart})
	statuses := map[string]int{}
	for range 100 {
		statuses[callGRPC(t, address, "")]++
	}
	if n := statuses["14"]; n < 25 || n > 75 || n+statuses["0"] != 100 {
		t.Errorf("one of two backends is invalid: %v of 100", statuses)
	}
	address = runRoute(t, mesh.KindGRPCRoute, "  - {matches: [{method: {service: shop.Other}}], backendRefs: [{name: cart, port: 80}]}\n", map[string]*backend{"cart": cart})
	if status := callGRPC(t, address, ""); status != "12" {
		t.Errorf("no rule: status %q, want 12 (UNIMPLEMENTED)", status)
	}
}

// callGRPC begins a stream and gives its status.
func callGRPC(t *testing.T, address, deadline string) string {
	t.Helper()
	client := &http.Transport{Protocols: new(http.Protocols)}
	client.Protocols.SetUnencryptedHTTP2(true)
	defer client.CloseIdleConnections()
	reader, writer := io.Pipe()
	defer writer.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/shop.Cart/Watch", reader)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("content-type", "application/grpc")
	if deadline != "" {
		req.Header.Set("grpc-timeout", deadline)
	}
	res, err := client.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	return res.Header.Get("Grpc-Status")
}
