package feature

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubeclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/envoytest"
	"github.com/mizzen-mesh/mizzen/internal/kubetest"
	"github.com/mizzen-mesh/mizzen/internal/xdstest"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// testMesh is a cluster with its control plane, and one pod with a sidecar. All other pods are outside the mesh.
type testMesh struct {
	t           *testing.T
	cfg         *config.Mesh
	pod         *corev1.Pod
	concurrency int
	// memory is the limit of the sidecar's container in bytes; 0 for none.
	memory uint64
	*xdstest.ControlPlane
	server *xdstest.Server
	// address is where Envoy finds the control plane: the server, or the tap before it.
	address string
	tap     *tap
	// sent counts the bytes that the server has written to its connections.
	sent  atomic.Int64
	stop  func()
	envoy *world.Envoy
	// services are those in the cluster, with their objects.
	services map[string][]kubeclient.Object
}

// service is a Service and its endpoints, "<ip>:<port>" each, at which pods outside the mesh are.
type service struct {
	namespace string // "shop" if empty
	ips       []string
	port      corev1.ServicePort
	endpoints []string
	// annotations of the Service.
	annotations map[string]string
	// with are the routes and policies of the Service.
	with []kubeclient.Object
}

// option changes a mesh before it starts. Without any it is as the product's defaults have it: a mesh as
// small as the tests' is sent ahead.
type option func(*testMesh)

// ahead is the default, for a table.
func ahead(*testMesh) {}

// onDemand sends nothing ahead.
func onDemand(w *testMesh) {
	w.cfg.OnDemand.WholeMesh, w.cfg.OnDemand.Namespace = new(int32(0)), new(int32(0))
}

// withoutIdentities is a mesh in which nobody has an identity. It comes before other options.
func withoutIdentities(w *testMesh) { w.cfg = configtest.WithoutIdentity() }

// bound is how long a first call waits for its configuration.
func bound(d time.Duration) option {
	return func(w *testMesh) { w.cfg.OnDemand.Timeout = &metav1.Duration{Duration: d} }
}

// workers is the number of Envoy's threads.
func twoWorkers(w *testMesh) { w.concurrency = 2 }

// tapped puts a tap before the server.
func tapped(w *testMesh) { w.tap = newTap(w.t) }

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

// newMesh publishes the Services, starts Envoy and waits until it is live. At the end of the test Envoy
// must not have refused anything.
func newMesh(t *testing.T, services map[string]service, options ...option) *testMesh {
	t.Helper()
	w := newCluster(t, services, options...)
	w.startControlPlane()
	w.startEnvoy()
	return w
}

// newCluster is newMesh without a server and without Envoy.
func newCluster(t *testing.T, services map[string]service, options ...option) *testMesh {
	t.Helper()
	envoytest.Path(t) // which skips the test where there is none
	w := &testMesh{
		t: t, cfg: config.Default(), concurrency: 1, address: "127.0.0.1:0", services: map[string][]kubeclient.Object{},
		pod: xdstest.Pod("shop", "client", netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00:244::1")),
	}
	for _, o := range options {
		o(w)
	}
	objects := []kubeclient.Object{
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: serviceRanges}},
		kubetest.Namespace(w.pod.Namespace, nil),
	}
	for name, s := range services {
		w.services[name] = s.objects(name)
		objects = append(objects, w.services[name]...)
	}
	w.startReplica(xdstest.Options{Objects: objects})
	w.must(w.join(w.pod))
	w.stop = func() {}
	t.Cleanup(func() { w.stop() })
	return w
}

func (w *testMesh) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// startReplica makes the control plane one with the configuration as it is now.
func (w *testMesh) startReplica(o xdstest.Options) {
	w.t.Helper()
	ended := &atomic.Bool{}
	o.Config, o.Log, o.Report = w.cfg, testr.New(w.t), func(about mesh.ID, problems []mesh.Problem) {
		if len(problems) > 0 && !ended.Load() {
			w.t.Errorf("%s: %v", about, problems)
		}
	}
	var err error
	w.ControlPlane, err = xdstest.Start(o)
	w.must(err)
	stop := w.Stop
	w.t.Cleanup(func() { ended.Store(true); w.must(stop()) })
}

// join makes a pod one of the mesh.
func (w *testMesh) join(pod *corev1.Pod) error {
	injected, err := w.Inject(pod)
	if err != nil {
		return err
	}
	if err := w.Apply(injected); err != nil {
		return err
	}
	return w.Published()
}

// startControlPlane serves what is published, at the same address each time, until w.stop. A second server knows
// nothing of the first, like another replica.
func (w *testMesh) startControlPlane() {
	w.t.Helper()
	address := w.address
	if w.tap != nil {
		address = "127.0.0.1:0"
	}
	l, err := net.Listen("tcp", address)
	w.must(err)
	server, err := w.Serve(countingListener{l, &w.sent})
	w.must(err)
	w.server = server
	stopTap := func() {}
	if w.tap != nil {
		w.address, stopTap = w.tap.serve(w.address, w)
	} else {
		w.address = server.Address
	}
	w.stop = func() {
		for _, p := range server.Proxies() {
			if len(p.NACKs) > 0 {
				w.t.Errorf("Envoy refused: %+v", p.NACKs)
			}
		}
		stopTap()
		if err := server.Stop(); err != nil {
			w.t.Error(err)
		}
		w.stop = func() {}
	}
}

// upgrade puts another replica in place of the control plane, with a changed configuration.
func (w *testMesh) upgrade(change func(*config.Mesh)) {
	w.t.Helper()
	w.stop()
	cfg := *w.cfg
	change(&cfg)
	w.cfg = &cfg
	w.startReplica(xdstest.Options{Cluster: w.Cluster, Authority: w.Authority})
	w.startControlPlane()
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
func (w *testMesh) publish(services map[string]service) {
	w.t.Helper()
	var others []string
	for name := range w.services {
		if _, ok := services[name]; !ok {
			others = append(others, name)
		}
	}
	w.change(services, others...)
}

// change sets some Services and removes others, and waits until that is published. As in Kubernetes endpoints follow their
// Service.
func (w *testMesh) change(set map[string]service, remove ...string) {
	w.t.Helper()
	var gone, now []kubeclient.Object
	for _, name := range remove {
		gone = append(gone, w.services[name]...)
		delete(w.services, name)
	}
	for name, s := range set {
		objects := s.objects(name)
		for _, before := range w.services[name] {
			if !slices.ContainsFunc(objects, func(o kubeclient.Object) bool { return id(o) == id(before) }) {
				gone = append(gone, before)
			}
		}
		now, w.services[name] = append(now, objects...), objects
	}
	// Pods of Services that are gone stay, since others may have the same.
	gone = slices.DeleteFunc(gone, func(o kubeclient.Object) bool { _, pod := o.(*corev1.Pod); return pod })
	w.must(w.Delete(inOrder(gone)...))
	w.must(w.Apply(inOrder(now)...))
	w.must(w.Published())
}

func id(o kubeclient.Object) string { return fmt.Sprintf("%T %s/%s", o, o.GetNamespace(), o.GetName()) }

// inOrder sorts objects as they come to be: each name once, pods and Services before routes and policies, and endpoints last.
func inOrder(objects []kubeclient.Object) []kubeclient.Object {
	place := func(o kubeclient.Object) string {
		kind := id(o)
		switch o.(type) {
		case *metav1.PartialObjectMetadata:
			kind = "0" + kind
		case *corev1.Pod:
			kind = "1" + kind
		case *corev1.Service:
			kind = "2" + kind
		case *discoveryv1.EndpointSlice:
			kind = "4" + kind
		default:
			kind = "3" + kind
		}
		return kind
	}
	slices.SortStableFunc(objects, func(a, b kubeclient.Object) int { return strings.Compare(place(a), place(b)) })
	return slices.CompactFunc(objects, func(a, b kubeclient.Object) bool { return id(a) == id(b) })
}

// objects are what Kubernetes has of the Service.
func (s service) objects(name string) []kubeclient.Object {
	if s.namespace == "" {
		s.namespace = "shop"
	}
	meta := metav1.ObjectMeta{Namespace: s.namespace, Name: name, Annotations: s.annotations}
	out := []kubeclient.Object{
		kubetest.Namespace(s.namespace, nil),
		&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: s.ips[0], ClusterIPs: s.ips, Ports: []corev1.ServicePort{s.port}}},
	}
	byPort := map[string]*discoveryv1.EndpointSlice{} // and family
	for _, text := range s.endpoints {
		addr := netip.MustParseAddrPort(text)
		pod := xdstest.Pod(s.namespace, "at-"+addr.Addr().String(), addr.Addr())
		slice := byPort[fmt.Sprint(addr.Addr().Is6(), addr.Port())]
		if slice == nil {
			slice = &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: s.namespace, Name: fmt.Sprintf("%s-%d-%t", name, addr.Port(), addr.Addr().Is6()),
					Labels: map[string]string{discoveryv1.LabelServiceName: name},
				},
				AddressType: discoveryv1.AddressTypeIPv4,
				Ports:       []discoveryv1.EndpointPort{{Name: &s.port.Name, Port: new(int32(addr.Port())), Protocol: new(corev1.ProtocolTCP)}},
			}
			if addr.Addr().Is6() {
				slice.AddressType = discoveryv1.AddressTypeIPv6
			}
			byPort[fmt.Sprint(addr.Addr().Is6(), addr.Port())] = slice
		}
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{addr.Addr().String()}, Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		})
		out = append(out, pod)
	}
	for _, key := range slices.Sorted(maps.Keys(byPort)) {
		out = append(out, byPort[key])
	}
	return append(out, s.with...)
}

// startEnvoy runs the pod's Envoy until the test ends, and waits until it is live.
func (w *testMesh) startEnvoy() {
	t := w.t
	t.Helper()
	here, err := world.Here()
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	w.envoy, err = here.StartEnvoy(w.concurrency, func(dir string) ([]byte, error) {
		return world.JSON(here.Bootstrap(ctx, dir, w.ControlPlane, w.pod, w.address, nil, func(s *agent.Settings) { s.MemoryLimit = w.memory }))
	})
	w.must(err)
	t.Cleanup(w.envoy.Stop)
}

// await polls until the condition holds, and fails the test after 15 s.
func (w *testMesh) await(what string, condition func() error) {
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
func (w *testMesh) answers(url string) {
	w.t.Helper()
	w.await(url+" answers", func() error {
		status, body, err := get(client(w.t, false), url)
		if err != nil || status != http.StatusOK {
			return fmt.Errorf("status %d, body %q, error %v", status, body, err) //nolint:errorlint // err may be nil
		}
		return nil
	})
}
