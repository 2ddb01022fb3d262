package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

const (
	namespaces = 20
	httpPort   = 80
	tcpPort    = 5432
	// cleanupTimeout bounds the removal of what a run made.
	cleanupTimeout = 5 * time.Minute
)

// labels of all that a run makes. kube-proxy leaves alone what another proxy is named for: the node
// here is also the machine that measures, and would program ten thousand Services.
var labels = map[string]string{"mizzen-bench": "controlplane", "service.kubernetes.io/service-proxy-name": "mizzen-bench"}

// service is one Service of the run.
type service struct {
	namespace, name string
	ip              netip.Addr
	tcp             bool // has a second, opaque port
}

// destination is the address of its HTTP port, and the name of the scope and the route configuration.
func (s service) destination() string { return netip.AddrPortFrom(s.ip, httpPort).String() }

// backends is the name of its HTTP port's endpoints.
func (s service) backends() string {
	return envoy.OutboundName(mesh.EndpointsKey{Service: mesh.Key{Namespace: s.namespace, Name: s.name}, Port: httpPort, Family: mesh.IPv4})
}

// opaque is the address of its TCP port, and the name of the cluster.
func (s service) opaque() string { return netip.AddrPortFrom(s.ip, tcpPort).String() }

// world is what the run has made in the cluster.
type world struct {
	*cluster.Cluster
	endpoints  int // of each Service
	services   []service
	generation atomic.Uint32 // numbers the addresses that endpoints are changed to
}

func namespace(i int) string { return fmt.Sprintf("mizzen-bench-%02d", i%namespaces) }

// begin removes what a killed run may have left and makes the namespaces.
func (w *world) begin(ctx context.Context) error {
	if err := w.end(ctx); err != nil {
		return err
	}
	return cluster.Each(ctx, namespaces, func(ctx context.Context, i int) error {
		_, err := w.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: meta(namespace(i), nil)}, metav1.CreateOptions{})
		return err
	})
}

// end removes the namespaces with all that is in them.
func (w *world) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	return cluster.Each(ctx, namespaces, func(ctx context.Context, i int) error {
		err := w.CoreV1().Namespaces().Delete(ctx, namespace(i), metav1.DeleteOptions{})
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		return w.WaitNoNamespace(ctx, namespace(i), cleanupTimeout)
	})
}

// grow makes Services until there are n.
func (w *world) grow(ctx context.Context, n int) error {
	first := len(w.services)
	if n <= first {
		return nil
	}
	w.services = append(w.services, make([]service, n-first)...)
	return cluster.Each(ctx, n-first, func(ctx context.Context, i int) error {
		svc, err := w.create(ctx, first+i)
		w.services[first+i] = svc
		return err
	})
}

// create makes the endpoints before the Service, so that a Service is never without.
func (w *world) create(ctx context.Context, i int) (service, error) {
	s := service{namespace: namespace(i), name: fmt.Sprintf("service-%05d", i), tcp: i/namespaces%5 == 0}
	if _, err := w.DiscoveryV1().EndpointSlices(s.namespace).Create(ctx, w.slice(s, i), metav1.CreateOptions{}); err != nil {
		return s, fmt.Errorf("EndpointSlice %s/%s: %w", s.namespace, s.name, err)
	}
	made, err := w.CoreV1().Services(s.namespace).Create(ctx, object(s), metav1.CreateOptions{})
	if err != nil {
		return s, fmt.Errorf("service %s/%s: %w", s.namespace, s.name, err)
	}
	s.ip, err = netip.ParseAddr(made.Spec.ClusterIP)
	return s, err
}

func (w *world) remove(ctx context.Context, s service) error {
	if err := w.CoreV1().Services(s.namespace).Delete(ctx, s.name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	return w.DiscoveryV1().EndpointSlices(s.namespace).Delete(ctx, s.name, metav1.DeleteOptions{})
}

func object(s service) *corev1.Service {
	ports := []corev1.ServicePort{{Name: "http", Port: httpPort}}
	if s.tcp {
		ports = append(ports, corev1.ServicePort{Name: "tcp-db", Port: tcpPort})
	}
	return &corev1.Service{ObjectMeta: meta(s.name, nil), Spec: corev1.ServiceSpec{Ports: ports}}
}

func (w *world) slice(s service, i int) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{
		ObjectMeta:  meta(s.name, map[string]string{discoveryv1.LabelServiceName: s.name, discoveryv1.LabelManagedBy: "mizzen-bench"}),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
	}
	if s.tcp {
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Name: new("tcp-db"), Port: new(int32(tcpPort))})
	}
	for e := range w.endpoints {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{netip.AddrFrom4([4]byte{10, byte(200 + e), byte(i / 256), byte(i)}).String()},
			Conditions: discoveryv1.EndpointConditions{Ready: new(true)},
		})
	}
	return out
}

// move moves one endpoint of a Service to an address that was never there before.
func (w *world) move(ctx context.Context, s service) error {
	n := w.generation.Add(1)
	to := netip.AddrFrom4([4]byte{10, byte(100 + n>>16), byte(n >> 8), byte(n)})
	patch := fmt.Sprintf(`[{"op":"replace","path":"/endpoints/0/addresses/0","value":%q}]`, to)
	_, err := w.DiscoveryV1().EndpointSlices(s.namespace).Patch(ctx, s.name, types.JSONPatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

func meta(name string, more map[string]string) metav1.ObjectMeta {
	all := maps.Clone(labels)
	maps.Copy(all, more)
	return metav1.ObjectMeta{Name: name, Labels: all}
}
