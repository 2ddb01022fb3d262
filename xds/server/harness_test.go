package server_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// control is a server on loopback with its store.
type control struct {
	*server.Server
	store   *server.Store
	metrics *prometheus.Registry
	addr    string
	// stop ends the server and returns the error of Serve.
	stop func() error
}

func start(t *testing.T) *control {
	t.Helper()
	return startWith(t, server.Options{})
}

// startWith fills in the store and the registry. It does not log, unless the test looks at the log: what the
// proxies of a test do is asserted, and a log of it would hide what failed.
func startWith(t *testing.T, o server.Options) *control {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &control{store: server.NewStore(), metrics: prometheus.NewRegistry(), addr: l.Addr().String()}
	o.Store, o.Registerer = c.store, c.metrics
	if o.Log.GetSink() == nil {
		o.Log = logr.Discard()
	}
	c.Server = server.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Serve(ctx, l) }()
	stopped := false
	c.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		return <-done
	}
	t.Cleanup(func() {
		if err := c.stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c *control) apply(t *testing.T, change envoy.Change) {
	t.Helper()
	if _, err := c.store.Apply(change); err != nil {
		t.Fatal(err)
	}
}

func (c *control) set(t *testing.T, resources ...envoy.Resource) {
	t.Helper()
	c.apply(t, envoy.Change{Set: resources})
}

func (c *control) remove(t *testing.T, resources ...envoy.Resource) {
	t.Helper()
	c.apply(t, envoy.Change{Remove: ids(resources)})
}

// versions are those of the store, by the last word of the type and the name, which may have a variant
// behind it: "name (variant)".
func (c *control) versions(t *testing.T) map[string]map[string]string {
	t.Helper()
	w := httptest.NewRecorder()
	c.Debug().ServeHTTP(w, httptest.NewRequest("GET", "/debug/resources", nil))
	var all map[string]map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

func (c *control) version(t *testing.T, typeURL, name string) string {
	t.Helper()
	v := c.versions(t)[shortName(typeURL)][name]
	if v == "" {
		t.Fatalf("no %s %q", typeURL, name)
	}
	return v
}

func shortName(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }

// total sums up a metric over all its series that have the label value; over all for "".
func (c *control) total(t *testing.T, name, label string) float64 {
	t.Helper()
	families, err := c.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetValue() == label || label == "" {
					sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
					break
				}
			}
			if len(m.GetLabel()) == 0 {
				sum += m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// await waits for a condition that the test cannot be told of.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// proxy is a delta ADS client that does what the test says, over real gRPC.
type proxy struct {
	t      *testing.T
	conn   *grpc.ClientConn
	stream grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	in     chan *discoveryv3.DeltaDiscoveryResponse
	err    error // why the stream ended, once in is closed
	node   *corev3.Node
	close  func()
	// answered counts the answers to each demand.
	answered map[string]int
}

func (c *control) connect(t *testing.T, n *corev3.Node, dial ...grpc.DialOption) *proxy {
	t.Helper()
	plain := grpc.WithTransportCredentials(insecure.NewCredentials()) // the last one counts
	conn, err := grpc.NewClient(c.addr, append([]grpc.DialOption{plain}, dial...)...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, conn: conn, stream: stream, in: make(chan *discoveryv3.DeltaDiscoveryResponse, 100), node: n, answered: map[string]int{}}
	go func() {
		defer close(p.in)
		for {
			var res *discoveryv3.DeltaDiscoveryResponse
			if res, p.err = stream.Recv(); p.err != nil {
				return
			}
			select {
			case p.in <- res:
			case <-ctx.Done():
				p.err = ctx.Err()
				return
			}
		}
	}()
	p.close = func() {
		cancel()
		conn.Close()
	}
	t.Cleanup(p.close)
	return p
}

func pod(name, kubernetesNode string) *corev3.Node {
	return node.Node{Namespace: "shop", Pod: name, ServiceAccount: "default", NodeName: kubernetesNode, Version: "test"}.Proto()
}

func (p *proxy) send(req *discoveryv3.DeltaDiscoveryRequest) {
	p.t.Helper()
	req.Node = p.node
	if err := p.stream.Send(req); err != nil {
		p.t.Fatal(err)
	}
}

func (p *proxy) subscribe(typeURL string, names ...string) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names})
}

func (p *proxy) unsubscribe(typeURL string, names ...string) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesUnsubscribe: names})
}

// resume subscribes as a proxy does that comes back and holds something of the type.
func (p *proxy) resume(typeURL string, held map[string]string, names ...string) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names, InitialResourceVersions: held})
}

func (p *proxy) ack(res *discoveryv3.DeltaDiscoveryResponse) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: res.TypeUrl, ResponseNonce: res.Nonce})
}

func (p *proxy) nack(res *discoveryv3.DeltaDiscoveryResponse, message string) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: res.TypeUrl, ResponseNonce: res.Nonce,
		ErrorDetail: &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: message},
	})
}

// take acknowledges the next response, which must be as expect wants it.
func (p *proxy) take(typeURL string, want ...string) *discoveryv3.DeltaDiscoveryResponse {
	p.t.Helper()
	res := p.expect(typeURL, want...)
	p.ack(res)
	return res
}

// warm takes clusters, which have endpoints of the same name, as Envoy does: it acknowledges them when
// their endpoints are there.
func (p *proxy) warm(names ...string) {
	p.t.Helper()
	res := p.expect(envoy.ClusterType, names...)
	p.subscribe(envoy.EndpointType, names...)
	p.take(envoy.EndpointType, names...)
	p.ack(res)
}

// response returns the next response, without the repetitions of answers. wanted is what the test waits for.
func (p *proxy) response(wanted any) *discoveryv3.DeltaDiscoveryResponse {
	p.t.Helper()
	for {
		if res := p.any(wanted); !p.repeats(res) {
			return res
		}
	}
}

// any returns the next response.
func (p *proxy) any(wanted any) *discoveryv3.DeltaDiscoveryResponse {
	p.t.Helper()
	select {
	case res, ok := <-p.in:
		if !ok {
			p.t.Fatalf("the stream ended: %v; wanted %v", p.err, wanted)
		}
		return res
	case <-time.After(patience):
		p.t.Fatalf("no response; wanted %v", wanted)
		return nil
	}
}

// next returns the next response, which must be of the type.
func (p *proxy) next(typeURL string) *discoveryv3.DeltaDiscoveryResponse {
	p.t.Helper()
	res := p.response(typeURL)
	if res.TypeUrl != typeURL {
		p.t.Fatalf("got %s %q, want %s", res.TypeUrl, content(res), typeURL)
	}
	return res
}

// expect returns the next response, which must be of the type and hold exactly this: names, and "-name" for a removed
// resource.
func (p *proxy) expect(typeURL string, want ...string) *discoveryv3.DeltaDiscoveryResponse {
	p.t.Helper()
	res := p.next(typeURL)
	if got := content(res); !slices.Equal(got, want) {
		p.t.Fatalf("got %s %q, want %q", typeURL, got, want)
	}
	return res
}

// takeEach acknowledges one response of each type, in any order, that holds just the name.
func (p *proxy) takeEach(name string, types ...string) {
	p.t.Helper()
	for range types {
		res := p.response(types)
		i := slices.Index(types, res.TypeUrl)
		if got := content(res); i < 0 || !slices.Equal(got, []string{name}) {
			p.t.Fatalf("got %s %q, want %q of each of %q", res.TypeUrl, got, name, types)
		}
		types = slices.Concat(types[:i], types[i+1:])
		p.ack(res)
	}
}

// ended waits for the end of the stream and returns its status code.
func (p *proxy) ended() codes.Code {
	p.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case _, ok := <-p.in:
			if !ok {
				return status.Code(p.err)
			}
		case <-deadline:
			p.t.Fatal("the stream goes on")
		}
	}
}

func content(res *discoveryv3.DeltaDiscoveryResponse) []string {
	var got []string
	for _, r := range res.Resources {
		got = append(got, r.Name)
	}
	for _, name := range res.RemovedResources {
		got = append(got, "-"+name)
	}
	return got
}

// only returns the single resource of a response.
func only[M proto.Message](t *testing.T, res *discoveryv3.DeltaDiscoveryResponse, m M) M {
	t.Helper()
	if len(res.Resources) != 1 {
		t.Fatalf("got %q, want one resource", content(res))
	}
	if err := res.Resources[0].Resource.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
	return m
}

// secretType is one of which sidecars get nothing.
const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// quiet asserts that nothing was sent: it asks for a name that does not exist, and the answer must be the next response.
func (p *proxy) quiet() {
	p.t.Helper()
	p.subscribe(secretType, "probe")
	p.take(secretType, "-probe")
	p.unsubscribe(secretType, "probe")
}
