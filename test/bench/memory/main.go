// Command memory measures what Envoy allocates in a sidecar, and what the control plane sends to it,
// against the number of Services, of which the pod calls ten.
//
//	make tools                     # Envoy
//	go run ./test/bench/memory     # as root, a minute
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"text/tabwriter"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Number of Services that the pod calls.
const used = 10

// Number of endpoints of each Service (called Services have one), and of namespaces over which Services are spread.
const endpoints, namespaces = 3, 20

func main() {
	list := flag.String("services", "0,100,1000,10000", "numbers of Services")
	protocol := flag.String("port", "http", "name of the Services' port: http is declared, tcp opaque, any other is detected")
	mtls := flag.Bool("mtls", false, "all endpoints have identities, one for each Service")
	flag.Parse()
	var counts []int
	for text := range strings.SplitSeq(*list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > 60000 {
			fmt.Fprintf(os.Stderr, "-services: %q: want numbers from 0 to 60000\n", text)
			os.Exit(2)
		}
		counts = append(counts, n)
	}
	world.Main(func() error { return run(counts, *protocol, *mtls) })
}

func run(counts []int, protocol string, mtls bool) error {
	var plain []uint16
	if !mtls {
		plain = append(plain, appPort) // the server needs no sidecar
	}
	pods, err := world.NewPods(plain...)
	if err != nil {
		return err
	}
	if err := startApplication(pods.Server); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "Services\tallocated MB\tRSS MB\tsent MB\tready after s\tKB for a Service\t")
	var first *figures
	for _, n := range counts {
		f, err := measure(pods, services(n, protocol, mtls), mtls)
		if err != nil {
			return fmt.Errorf("%d Services: %w", n, err)
		}
		if first == nil && n >= used {
			first = f
		}
		fmt.Fprintf(w, "%d\t%.1f\t%.1f\t%.2f\t%.1f\t%s\t\n", n, f.allocated/1e6, f.resident/1e6, f.sent/1e6, f.ready.Seconds(), f.each(first))
	}
	return w.Flush()
}

// figures of one sidecar, in bytes.
type figures struct {
	services                  int
	allocated, resident, sent float64
	ready                     time.Duration
}

// each returns the cost of one more Service that the pod does not call. In first it calls as many.
func (f *figures) each(first *figures) string {
	if first == nil || f.services == first.services {
		return "-"
	}
	return fmt.Sprintf("%.2f", (f.allocated-first.allocated)/1e3/float64(f.services-first.services))
}

// measure starts a control plane for the Services and a sidecar, calls some, and reads its memory.
func measure(pods *world.Pods, all []world.Service, mtls bool) (*figures, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	cp, err := world.NewControlPlane(all)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cp.Stop() }()
	if mtls {
		server, _, err := sidecar(ctx, cp, pods.Server, "server")
		if err != nil {
			return nil, err
		}
		defer server.Stop()
	}
	start := time.Now()
	e, sent, err := sidecar(ctx, cp, pods.Client, "client")
	if err != nil {
		return nil, err
	}
	defer e.Stop()
	f := &figures{services: len(all), ready: time.Since(start)}
	for _, s := range all[:min(used, len(all))] {
		if err := get(s.IP); err != nil {
			return nil, err
		}
	}
	if err := f.settle(e); err != nil {
		return nil, err
	}
	f.sent = float64(sent.Load())
	return f, nil
}

// sidecar starts a pod's sidecar, and counts the bytes that it is sent.
func sidecar(ctx context.Context, cp *world.ControlPlane, ns world.NS, name string) (*world.Envoy, *atomic.Int64, error) {
	pod, err := cp.Pod(name)
	if err != nil {
		return nil, nil, err
	}
	address, sent, err := cp.Serve(ns) //nolint:contextcheck // Stop ends it
	if err != nil {
		return nil, nil, err
	}
	e, err := ns.StartEnvoy(agent.Defaults().Concurrency, func(dir string) ([]byte, error) {
		return world.JSON(ns.Bootstrap(ctx, dir, cp.ControlPlane, pod, address, nil))
	})
	return e, sent, err
}

// services returns n Services. The server's application answers for the first ones. All other endpoints have addresses
// of their own, as pods have.
func services(n int, portName string, mtls bool) []world.Service {
	out := make([]world.Service, n)
	for i := range out {
		s := world.Service{
			Namespace: fmt.Sprintf("team-%d", i%namespaces), Name: fmt.Sprintf("service-%d", i),
			IP:    address(serviceNet, i),
			Ports: []corev1.ServicePort{world.Port(portName, 80, appPort)},
		}
		for j := range endpoints {
			s.Endpoints = append(s.Endpoints, address(podNet, i*endpoints+j))
		}
		if mtls {
			s.Identity = mesh.SPIFFEID(world.TrustDomain, s.Namespace, s.Name)
		}
		if i < used {
			s.Endpoints = []string{world.ServerIP}
			if mtls {
				s.Identity = mesh.SPIFFEID(world.TrustDomain, "bench", "server")
			}
		}
		out[i] = s
	}
	return out
}

// The second octet at which the addresses of Services and of pods begin.
const serviceNet, podNet = 96, 128

// address returns the i-th address from 10.<net>.0.0 on.
func address(net, i int) string {
	i++ // not the network's own
	return fmt.Sprintf("10.%d.%d.%d", net+i>>16, i>>8&255, i&255)
}

const appPort = 8080

func startApplication(server world.NS) error {
	l, err := server.Listen(fmt.Sprintf("%s:%d", world.ServerIP, appPort))
	if err != nil {
		return err
	}
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "hello")
	})}
	go func() { _ = s.Serve(l) }() // ends with the program
	return nil
}

func get(ip string) error {
	res, err := http.Get("http://" + ip + "/") //nolint:noctx // Envoy bounds the wait
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("Service %s: %s: %s", ip, res.Status, body) //nolint:staticcheck // a kind
	}
	return err
}

// settle reads the memory when it no longer changes.
func (f *figures) settle(e *world.Envoy) error {
	for last := -1.0; ; last = f.allocated {
		if err := f.read(e); err != nil {
			return err
		}
		if diff := f.allocated - last; diff > -5e4 && diff < 5e4 {
			return nil
		}
		time.Sleep(2 * time.Second)
	}
}

func (f *figures) read(e *world.Envoy) error {
	text, err := e.Get("/memory")
	if err != nil {
		return err
	}
	var memory struct {
		Allocated float64 `json:"allocated,string"`
	}
	if err := json.Unmarshal(text, &memory); err != nil {
		return fmt.Errorf("admin /memory: %w", err)
	}
	f.allocated = memory.Allocated
	f.resident, err = resident(e.PID())
	return err
}

// resident returns the resident set size of a process.
func resident(pid int) (float64, error) {
	path := fmt.Sprintf("/proc/%d/statm", pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	var size, pages float64
	if _, err := fmt.Sscan(string(text), &size, &pages); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return pages * float64(os.Getpagesize()), nil
}
