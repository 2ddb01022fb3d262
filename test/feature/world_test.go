package feature

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/envoytest"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// world is a control plane with one sidecar.
type world struct {
	t      *testing.T
	cfg    *config.Mesh
	store  *server.Store
	server *server.Server
	admin  *http.Client
	// published is what the last publish set.
	published []envoy.ID
}

var serviceCIDRs = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:96::/112")}

// service is a Service and its endpoints, "<ip>:<port>" each.
type service struct {
	ips       []string
	port      corev1.ServicePort
	endpoints []string
}

// newWorld publishes the Services, starts Envoy and waits until it has all of them.
func newWorld(t *testing.T, services map[string]service) *world {
	t.Helper()
	w := &world{t: t, cfg: config.Default(), store: server.NewStore()}
	w.publish(services)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.server = server.New(server.Options{Store: w.store, Log: testr.New(t)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.server.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	w.startEnvoy(l.Addr().String())
	return w
}

// publish makes the Services the whole mesh; others are removed.
func (w *world) publish(services map[string]service) {
	w.t.Helper()
	change := server.Change{Set: append(envoy.BaseClusters(w.cfg), envoy.InboundListeners()...)}
	var models []*mesh.Service
	for name, s := range services {
		object := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: s.ips, Ports: []corev1.ServicePort{s.port}}}
		object.Namespace, object.Name = "shop", name
		model, problems := mesh.BuildService(object, mesh.Options{OpaquePorts: w.cfg.Detection.OpaquePorts})
		if len(problems) > 0 {
			w.t.Fatal(problems)
		}
		models = append(models, model)
		change.Set = append(change.Set, envoy.ServiceResources(model, w.cfg)...)
		endpoints, problems := mesh.Endpoints(model, endpointSlices(s))
		if len(problems) > 0 {
			w.t.Fatal(problems)
		}
		for key, eps := range endpoints {
			change.Set = append(change.Set, envoy.EndpointResources(model, key, eps)...)
		}
	}
	change.Set = append(change.Set, envoy.OutboundListeners(envoy.NewProtocolTable(models...), serviceCIDRs, w.cfg)...)
	change.Remove, w.published = w.published, nil
	for _, r := range change.Set {
		w.published = append(w.published, r.ID())
	}
	if _, err := w.store.Apply(change); err != nil {
		w.t.Fatal(err)
	}
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

// startEnvoy runs Envoy as the sidecar's user until the test ends, and waits until it is live.
func (w *world) startEnvoy(controlPlane string) {
	t := w.t
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "mizzen-feature-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	settings := agent.Defaults()
	settings.ControlPlane, settings.Dir = controlPlane, dir
	settings.Node = node.Node{
		Namespace: "shop", Pod: "client-0", ServiceAccount: "client", Version: "test",
		IPs: []netip.Addr{netip.MustParseAddr("10.244.0.1"), netip.MustParseAddr("fd00:244::5")},
	}
	boot, err := agent.Bootstrap(settings)
	if err != nil {
		t.Fatal(err)
	}
	json, err := protojson.Marshal(boot)
	if err != nil {
		t.Fatal(err)
	}
	binary, file := filepath.Join(dir, "envoy"), filepath.Join(dir, "bootstrap.json")
	for path, content := range map[string][]byte{binary: nil, file: json} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chown(dir, proxyUID, proxyUID); err != nil {
		t.Fatal(err)
	}
	// The sidecar's user may not reach the directory that the binary lies in.
	source, err := filepath.EvalSymlinks(envoytest.Path(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, binary, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(binary, unix.MNT_DETACH) })
	cmd := exec.Command(binary, "-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: proxyUID, Gid: proxyUID},
		Pdeathsig:  syscall.SIGKILL,
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	socket := boot.GetAdmin().GetAddress().GetPipe().GetPath()
	w.admin = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	w.await("Envoy is live", func() error {
		res, err := w.admin.Get("http://envoy/ready")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("admin /ready: %s", res.Status)
		}
		return nil
	})
}

const proxyUID = config.ProxyUID

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
