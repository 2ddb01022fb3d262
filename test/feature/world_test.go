package feature

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// world is a control plane with one sidecar.
type world struct {
	t           *testing.T
	cfg         *config.Mesh
	node        node.Node
	concurrency int
	store       *server.Store
	server      *server.Server
	// address is where Envoy finds the control plane: the server, or the tap before it.
	address string
	tap     *tap
	// sent counts the bytes that the server has written to its connections.
	sent  atomic.Int64
	stop  func()
	admin *http.Client
	// protocols are those of all Services, published what there is of each.
	protocols *envoy.ProtocolTable
	published map[string]built
}

type built struct {
	model *mesh.Service
	ids   []envoy.ID
}

var serviceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")}

// service is a Service and its endpoints, "<ip>:<port>" each.
type service struct {
	namespace string // "shop" if empty
	ips       []string
	port      corev1.ServicePort
	endpoints []string
	// annotations of the Service, and what its traffic policy says.
	annotations map[string]string
	traffic     mesh.TrafficPolicy
	// rules of routes, by port; none where each request goes to the Service itself.
	rules map[uint16]mesh.PortRules
}

// option changes a world before it starts. Without any it is as the product's defaults have it: a mesh as
// small as the tests' is sent ahead.
type option func(*world)

// ahead is the default, for a table.
func ahead(*world) {}

// onDemand sends nothing ahead.
func onDemand(w *world) {
	w.cfg.OnDemand.WholeMesh, w.cfg.OnDemand.Namespace = new(int32(0)), new(int32(0))
}

// bound is how long a first call waits for its configuration.
func bound(d time.Duration) option {
	return func(w *world) { w.cfg.OnDemand.Timeout = &metav1.Duration{Duration: d} }
}

// workers is the number of Envoy's threads.
func twoWorkers(w *world) { w.concurrency = 2 }

// tapped puts a tap before the server.
func tapped(w *world) { w.tap = newTap(w.t) }

// bothWays runs a test with everything sent ahead and with everything on demand.
func bothWays(t *testing.T, run func(*testing.T, option)) {
	t.Helper()
	for _, tt := range []struct {
		name string
		option
	}{{"ahead", ahead}, {"on demand", onDemand}} {
		t.Run(tt.name, func(t *testing.T) { run(t, tt.option) })
	}
}

// newWorld publishes the Services, starts Envoy and waits until it is live. At the end of the test Envoy
// must not have refused anything.
func newWorld(t *testing.T, services map[string]service, options ...option) *world {
	t.Helper()
	w := &world{
		t: t, cfg: configtest.WithoutIdentity(), concurrency: 1, store: server.NewStore(), address: "127.0.0.1:0",
		node: node.Node{
			Namespace: "shop", Pod: "client-0", ServiceAccount: "client", Version: "test",
			IPs: []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00:244::5")},
		},
		protocols: envoy.NewProtocolTable(),
		published: map[string]built{},
	}
	for _, o := range options {
		o(w)
	}
	w.publish(services)
	w.startControlPlane()
	t.Cleanup(func() { w.stop() })
	w.startEnvoy()
	return w
}

// startControlPlane serves the store, at the same address each time, until w.stop. A second server knows
// nothing of the first, like another replica.
func (w *world) startControlPlane() {
	w.t.Helper()
	address := w.address
	if w.tap != nil {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		w.t.Fatal(err)
	}
	w.server = server.New(server.Options{Store: w.store, Log: testr.New(w.t), Ahead: server.Ahead{
		WholeMesh: int(*w.cfg.OnDemand.WholeMesh), Namespace: int(*w.cfg.OnDemand.Namespace),
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(ctx, countingListener{l, &w.sent}) }()
	stopTap := func() {}
	if w.tap != nil {
		w.address, stopTap = w.tap.serve(w.address, l.Addr().String())
	} else {
		w.address = l.Addr().String()
	}
	w.stop = func() {
		for _, p := range w.server.Proxies() {
			if len(p.NACKs) > 0 {
				w.t.Errorf("Envoy refused: %+v", p.NACKs)
			}
		}
		stopTap()
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
		w.stop = func() {}
	}
}

type countingListener struct {
	net.Listener
	n *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return countingConn{c, l.n}, err
}

type countingConn struct {
	net.Conn
	n *atomic.Int64
}

func (c countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.n.Add(int64(n))
	return n, err
}

// publish makes the Services the whole mesh; others are removed.
func (w *world) publish(services map[string]service) {
	w.t.Helper()
	var others []string
	for name := range w.published {
		if _, ok := services[name]; !ok {
			others = append(others, name)
		}
	}
	w.change(services, others...)
}

// change sets some Services and removes others, as one change.
func (w *world) change(set map[string]service, remove ...string) {
	w.t.Helper()
	change := server.Change{Set: append(envoy.BaseClusters(w.cfg), envoy.InboundListeners()...)}
	for _, name := range remove {
		w.forget(name, &change)
	}
	for name, s := range set {
		w.forget(name, &change)
		w.build(name, s, &change)
	}
	change.Set = append(change.Set, envoy.OutboundListeners(w.protocols, serviceCIDRs, w.cfg)...)
	listeners, gone := w.protocols.Routes.Resources(w.cfg)
	change.Set, change.Remove = append(change.Set, listeners...), append(change.Remove, gone...)
	if _, err := w.store.Apply(change); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) forget(name string, change *server.Change) {
	if before, ok := w.published[name]; ok {
		change.Remove = append(change.Remove, before.ids...)
		w.protocols.Remove(before.model)
		w.protocols.Routes.Set(before.model.Key, nil, nil)
		delete(w.published, name)
	}
}

func (w *world) build(name string, s service, change *server.Change) {
	w.t.Helper()
	object := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: s.ips, Ports: []corev1.ServicePort{s.port}}}
	object.Namespace, object.Name, object.Annotations = "shop", name, s.annotations
	if s.namespace != "" {
		object.Namespace = s.namespace
	}
	model, problems := mesh.BuildService(object, mesh.Options{OpaquePorts: w.cfg.Detection.OpaquePorts})
	if len(problems) > 0 {
		w.t.Fatal(problems)
	}
	model.Traffic = s.traffic
	resources := envoy.ServiceResources(model, s.rules, w.cfg)
	endpoints, problems := mesh.Endpoints(model, endpointSlices(s), nil)
	if len(problems) > 0 {
		w.t.Fatal(problems)
	}
	for key, eps := range endpoints {
		resources = append(resources, envoy.EndpointResources(model, key, eps)...)
	}
	b := built{model: model}
	for _, r := range resources {
		b.ids = append(b.ids, r.ID())
	}
	change.Set = append(change.Set, resources...)
	w.published[name] = b
	w.protocols.Add(model)
	w.protocols.Routes.Set(model.Key, model, s.rules)
}

// endpointSlices gives each endpoint a slice of its own, so that ports and families may differ.
func endpointSlices(s service) []*discoveryv1.EndpointSlice {
	var out []*discoveryv1.EndpointSlice
	for _, text := range s.endpoints {
		addr := netip.MustParseAddrPort(text)
		port := int32(addr.Port())
		slice := &discoveryv1.EndpointSlice{
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Name: &s.port.Name, Port: &port}},
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{addr.Addr().String()}}},
		}
		if addr.Addr().Is6() {
			slice.AddressType = discoveryv1.AddressTypeIPv6
		}
		out = append(out, slice)
	}
	return out
}

// await polls until the condition holds, and fails the test after 15 s.
func (w *world) await(what string, condition func() error) {
	w.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		err := condition()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not reached: %s: %v", what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// answers fails the test if an HTTP Service does not answer within the time of await.
func (w *world) answers(url string) {
	w.t.Helper()
	w.await(url+" answers", func() error {
		status, body, err := get(client(w.t, false), url)
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("status %d, body %q, error %v", status, body, err) //nolint:errorlint // err may be nil
		}
		return nil
	})
}
