package adsload

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// The control plane's server without Kubernetes, for benchmarks that look into it. In the same process
// its goroutines carry the profile label side=server:
//
//	go test ./test/bench/internal/adsload -run '^$' -bench Sync -cpuprofile cpu.out
//	go tool pprof -top -tagfocus side=server cpu.out

// service i of a synthetic mesh.
func service(i int) *mesh.Service {
	ip := netip.AddrFrom4([4]byte{10, 96, byte(i / 256), byte(i)})
	svc := &mesh.Service{
		Key:        mesh.Key{Namespace: fmt.Sprintf("bench-%02d", i%20), Name: fmt.Sprintf("service-%05d", i)},
		ClusterIPs: []netip.Addr{ip},
		Ports:      []mesh.Port{{Number: 80, Name: "http", Protocol: mesh.HTTP}},
	}
	if i%5 == 0 {
		svc.Ports = append(svc.Ports, mesh.Port{Number: 5432, Name: "tcp-db", Protocol: mesh.TCP})
	}
	return svc
}

// destination is the address of a Service's HTTP port.
func destination(svc *mesh.Service) string { return netip.AddrPortFrom(svc.ClusterIPs[0], 80).String() }

// endpointsName is the name of the endpoints of a Service's HTTP port.
func endpointsName(svc *mesh.Service) string {
	return envoy.OutboundName(mesh.EndpointsKey{Service: svc.Key, Port: 80, Family: mesh.IPv4})
}

// resources of a Service, without its endpoints.
func resources(svc *mesh.Service) []envoy.Resource {
	return envoy.ServiceResources(svc, nil, configtest.WithoutIdentity())
}

func endpoints(svc *mesh.Service, port uint16, generation int) []envoy.Resource {
	var eps []mesh.Endpoint
	for j := range 3 {
		ip := netip.AddrFrom4([4]byte{10, byte(100 + j), byte(generation / 256), byte(generation)})
		eps = append(eps, mesh.Endpoint{Addr: netip.AddrPortFrom(ip, port), Node: "n1"})
	}
	return envoy.EndpointResources(svc, mesh.EndpointsKey{Service: svc.Key, Port: port, Family: mesh.IPv4}, eps)
}

func store(tb testing.TB, services int) *server.Store {
	tb.Helper()
	cfg := configtest.WithoutIdentity()
	set := append(envoy.BaseClusters(cfg), envoy.InboundListeners()...)
	var all []*mesh.Service
	for i := range services {
		svc := service(i)
		all = append(all, svc)
		set = append(set, resources(svc)...)
		for _, p := range svc.Ports {
			set = append(set, endpoints(svc, p.Number, 0)...)
		}
	}
	set = append(set, envoy.OutboundListeners(envoy.NewProtocolTable(all...), []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}, nil, cfg)...)
	s := server.NewStore()
	if _, err := s.Apply(envoy.Change{Set: set}); err != nil {
		tb.Fatal(err)
	}
	return s
}

// anyNumber of streams may come from one address.
const anyNumber = 1 << 20

// onDemand preloads nothing.
var onDemand = server.PreloadBounds{}

// serve gives the address of a server in this process.
func serve(tb testing.TB, s *server.Store, preload server.PreloadBounds) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go pprof.Do(ctx, pprof.Labels("side", "server"), func(ctx context.Context) {
		done <- server.New(server.Options{Store: s, Log: logr.Discard(), Preload: preload, StreamsPerAddress: anyNumber}).Serve(ctx, l)
	})
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	return l.Addr().String()
}

func fleet(tb testing.TB, address string, n, services, used int) *Fleet {
	tb.Helper()
	nodes := make([]node.Node, n)
	for i := range nodes {
		nodes[i] = node.Node{Namespace: fmt.Sprintf("bench-%02d", i%20), Pod: fmt.Sprintf("p-%d", i), ServiceAccount: "default", NodeName: "n1", Version: "bench"}
	}
	f := New(Options{Address: address, Nodes: nodes, Uses: func(i int) Uses {
		var u Uses
		for j := range min(used, services) {
			u.HTTP = append(u.HTTP, destination(service((i+j*20)%services)))
		}
		return u
	}})
	tb.Cleanup(f.Disconnect)
	return f
}

func connect(tb testing.TB, f *Fleet) []time.Duration {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	f.Connect(ctx)
	times, err := f.AwaitSync(ctx)
	if err != nil {
		tb.Fatal(err)
	}
	return times
}

// Each client asks for the destinations that it calls, and gets them and nothing else.
func TestFleet(t *testing.T) {
	const n, used = 20, 5
	s := store(t, 50)
	f := fleet(t, serve(t, s, onDemand), n, 50, used)
	if times := connect(t, f); len(times) != n {
		t.Errorf("%d clients in sync, want %d", len(times), n)
	}
	got := f.Counts()
	for k, want := range map[Kind]int64{Scopes: n * (used + 1), Routes: n * used, Endpoints: n * used} {
		if got.Resources[k] != want {
			t.Errorf("%s: %d resources, want %d", k, got.Resources[k], want)
		}
	}
	awaitAnswers(t, f, Counts{}, n*used)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	svc := service(0)
	w := f.WatchEndpoints(endpointsName(svc), f.Holders(Endpoints, endpointsName(svc)))
	if _, err := s.Apply(envoy.Change{Set: endpoints(svc, 80, 1)}); err != nil {
		t.Fatal(err)
	}
	if got, err := w.Await(ctx, time.Now()); err != nil || len(got) == 0 {
		t.Errorf("%d clients heard of the change, error %v", len(got), err)
	}
	f.Disconnect()
	before := f.Counts()
	connect(t, f)
	if got := f.Counts().Sub(before); Total(got.Resources) != 0 {
		t.Errorf("a reconnect got %d resources again", Total(got.Resources))
	}
	awaitAnswers(t, f, before, n*used)
}

// timesAnswered is how often the server answers each demand on a stream.
const timesAnswered = 3

// awaitAnswers waits until the demands of all clients have been answered as often as they are, and no more often.
func awaitAnswers(t *testing.T, f *Fleet, before Counts, demands int64) {
	t.Helper()
	removed := func() int64 { return f.Counts().Sub(before).Removed[Clusters] }
	for deadline := time.Now().Add(time.Minute); removed() < timesAnswered*demands && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if got := removed(); got != timesAnswered*demands {
		t.Errorf("%d answers to %d demands, want %d for each", got, demands, timesAnswered)
	}
}

// What is preloaded comes without asking, and a new Service too. When a Service goes, its scope and routes go.
func TestPreloaded(t *testing.T) {
	const n, services = 20, 50
	s := store(t, services)
	f := fleet(t, serve(t, s, server.PreloadBounds{WholeMesh: 1000}), n, services, 5)
	connect(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	svc := service(services + 1)
	await := func(holders int) {
		t.Helper()
		for f.Holders(Scopes, destination(svc)) != holders || f.Holders(Routes, destination(svc)) != holders {
			if ctx.Err() != nil {
				t.Fatalf("%d clients hold the scope, %d the routes; want %d", f.Holders(Scopes, destination(svc)), f.Holders(Routes, destination(svc)), holders)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	set := append(resources(svc), endpoints(svc, 80, 0)...)
	if _, err := s.Apply(envoy.Change{Set: set}); err != nil {
		t.Fatal(err)
	}
	await(n)
	if asked, err := f.Use(0, destination(svc)); asked || err != nil {
		t.Errorf("a call to a preloaded Service asked %t, error %v", asked, err)
	}
	gone := envoy.Change{}
	for _, r := range set {
		gone.Remove = append(gone.Remove, r.ID())
	}
	if _, err := s.Apply(gone); err != nil {
		t.Fatal(err)
	}
	await(0)
	// Its cluster goes by a message of its own, after the last that named it. A demand would have had its answer long ago.
	removed := func() int64 { return f.Counts().Removed[Clusters] }
	for removed() < n && ctx.Err() == nil {
		time.Sleep(10 * time.Millisecond)
	}
	if got := removed(); got != n {
		t.Errorf("%d clusters said to be gone, want that of the Service at %d clients and no demand", got, n)
	}
}

// What one pod of a workload calls comes to the next ones without asking.
func TestWorkload(t *testing.T) {
	address := serve(t, store(t, 50), onDemand)
	pods := func(first, n int) *Fleet {
		nodes := make([]node.Node, n)
		for i := range nodes {
			nodes[i] = node.Node{Namespace: "bench-00", Pod: fmt.Sprintf("p-%d", first+i), ServiceAccount: "default", Version: "bench", Workload: "Deployment/p"}
		}
		f := New(Options{Address: address, Nodes: nodes, Uses: func(int) Uses {
			return Uses{HTTP: []string{destination(service(1)), destination(service(2))}}
		}})
		t.Cleanup(f.Disconnect)
		return f
	}
	one, next := pods(0, 1), pods(1, 20)
	connect(t, one)
	awaitAnswers(t, one, Counts{}, 2)
	connect(t, next)
	if got := next.Counts(); got.Removed[Clusters] != 0 || got.Resources[Scopes] != 20*3 {
		t.Errorf("%d answers to demands, %d scopes; want none and 3 for each", got.Removed[Clusters], got.Resources[Scopes])
	}
}

// A new Service costs the clients that do not call it nothing. One that does gets it, whether it calls before or after.
func TestNewService(t *testing.T) {
	for name, before := range map[string]bool{"called before": true, "called after": false} {
		t.Run(name, func(t *testing.T) {
			s := store(t, 50)
			address := serve(t, s, onDemand)
			f, caller := fleet(t, address, 20, 50, 5), fleet(t, address, 1, 50, 0)
			connect(t, f)
			connect(t, caller)
			awaitAnswers(t, f, Counts{}, 20*5)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			svc, counts := service(50), f.Counts()
			call := func() {
				t.Helper()
				if asked, err := caller.Use(0, destination(svc)); !asked || err != nil {
					t.Errorf("the call asked %t, error %v", asked, err)
				}
			}
			w := caller.WatchCall(destination(svc), 1)
			if before {
				call()
				awaitAnswers(t, caller, Counts{}, 1)
				if caller.Holders(Routes, destination(svc)) != 1 {
					t.Error("no routes for a destination without a Service")
				}
				select {
				case <-w.done:
					t.Error("a call reached a Service that there is not")
				default:
				}
			}
			if _, err := s.Apply(envoy.Change{Set: append(resources(svc), endpoints(svc, 80, 0)...)}); err != nil {
				t.Fatal(err)
			}
			if !before {
				call()
			}
			if _, err := w.Await(ctx, time.Now()); err != nil {
				t.Error(err)
			}
			if got := f.Counts().Sub(counts); got.Messages != ([kinds]int64{}) {
				t.Errorf("clients that do not call the Service got messages: %v", got.Messages)
			}
		})
	}
}

// What a client refuses is not sent to it again as it is.
func TestNACK(t *testing.T) {
	s := store(t, 50)
	f := fleet(t, serve(t, s, onDemand), 20, 50, 5)
	f.opt.NACKEvery = 1
	connect(t, f)
	name := endpointsName(service(0))
	before, holders := f.Counts(), f.Holders(Endpoints, name)
	if _, err := s.Apply(envoy.Change{Set: endpoints(service(0), 80, 1)}); err != nil {
		t.Fatal(err)
	}
	if err := f.Quiet(t.Context(), 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if got := f.Counts().Sub(before).Messages[Endpoints]; got != int64(holders) || holders == 0 {
		t.Errorf("%d messages to %d holders, want one for each", got, holders)
	}
}

// BenchmarkSync connects 100 fresh proxies.
func BenchmarkSync(b *testing.B) {
	for _, services := range []int{100, 1000, 10000} {
		b.Run(strconv.Itoa(services), func(b *testing.B) {
			address := serve(b, store(b, services), onDemand)
			b.ReportAllocs()
			for b.Loop() {
				f := fleet(b, address, 100, services, 10)
				connect(b, f)
				f.Disconnect()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/100, "µs/proxy")
		})
	}
}

// BenchmarkReconnect has 100 proxies come back with what they hold.
func BenchmarkReconnect(b *testing.B) {
	for _, services := range []int{1000, 10000} {
		b.Run(strconv.Itoa(services), func(b *testing.B) {
			f := fleet(b, serve(b, store(b, services), onDemand), 100, services, 10)
			connect(b, f)
			b.ReportAllocs()
			for b.Loop() {
				f.Disconnect()
				connect(b, f)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/100, "µs/proxy")
		})
	}
}

// BenchmarkApply changes endpoints that none of many streams hold: what the notification costs.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{100, 2000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			s := store(b, 0)
			f := fleet(b, serve(b, s, onDemand), n, 0, 0)
			connect(b, f)
			svc, generation := service(0), 0
			began := cpuSeconds(b)
			for b.Loop() {
				generation++
				if _, err := s.Apply(envoy.Change{Set: endpoints(svc, 80, generation)}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric((cpuSeconds(b)-began)*1e6/float64(b.N), "cpu-µs/change")
		})
	}
}

func cpuSeconds(tb testing.TB) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// BenchmarkIdleStream tells the memory of a stream with nothing to do, and the CPU to bring it there. The
// server is a process of its own (TestMain).
func BenchmarkIdleStream(b *testing.B) {
	for _, services := range []int{1, 1000, 10000} {
		b.Run(strconv.Itoa(services), func(b *testing.B) {
			const n = 500
			child := startChild(b, services)
			for b.Loop() {
				before := child.memory(b)
				f := fleet(b, child.address, n, services, 10)
				connect(b, f)
				after := child.memory(b)
				b.ReportMetric((after.Heap-before.Heap)/n/1024, "heap-KB/stream")
				b.ReportMetric((after.Stack-before.Stack)/n/1024, "stack-KB/stream")
				b.ReportMetric((after.CPU-before.CPU)*1000/n, "cpu-ms/stream")
				f.Disconnect()
			}
		})
	}
}

// child is a server in a process of its own.
type child struct{ address, status string }

type memory struct{ Heap, Stack, CPU float64 }

const childEnv = "ADSLOAD_SERVER" // its value is the number of Services

func startChild(tb testing.TB, services int) child {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+strconv.Itoa(services))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var c child
	if _, err := fmt.Fscan(out, &c.address, &c.status); err != nil {
		tb.Fatal(err)
	}
	return c
}

func (c child) memory(tb testing.TB) memory {
	tb.Helper()
	res, err := http.Get("http://" + c.status)
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	var m memory
	if err := json.NewDecoder(res.Body).Decode(&m); err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestMain(m *testing.M) {
	if env := os.Getenv(childEnv); env != "" {
		beChild(env)
	}
	os.Exit(m.Run())
}

// beChild serves until it is killed.
func beChild(services string) {
	n, err := strconv.Atoi(services)
	if err != nil {
		panic(err)
	}
	b := &testing.B{}
	address := serve(b, store(b, n), onDemand)
	status, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(address, status.Addr())
	panic(http.Serve(status, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		_ = json.NewEncoder(w).Encode(memory{Heap: float64(m.HeapAlloc), Stack: float64(m.StackInuse), CPU: cpuSeconds(b)})
	})))
}
