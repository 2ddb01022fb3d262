package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
	"github.com/mizzen-mesh/mizzen/test/internal/figures"
)

// Calls stay in the caller's zone while an endpoint there can be reached, follow the zone of the node, and none fails meanwhile.
func TestZones(t *testing.T) {
	beside(t)
	if withoutMesh {
		t.Skip("kube-proxy's own choice is another")
	}
	e := newEnv(t, true)
	e.deploy("east", 2, serverPod())
	e.deploy("west", 2, serverPod())
	e.ready("east", "west")
	client := e.client()
	// One node has one zone. So the test says which endpoints are recommended to which zone, as Kubernetes does where there are several.
	e.serviceWith("server", corev1.ServiceSpec{
		Ports: []corev1.ServicePort{port("http", httpPort), port("grpc", grpcPort)}, TrafficDistribution: new(corev1.ServiceTrafficDistributionPreferSameZone),
	})
	for _, zone := range []string{"east", "west"} {
		e.recommend("server", zone)
	}
	zone := e.zoneOf(client)
	zone("east")
	e.reachable(client, httpCall, grpcCall)
	loads := map[string]*load{}
	start := func() {
		for name, call := range map[string]api.Call{"HTTP": httpCall, "gRPC": grpcCall} {
			loads[name] = e.startLoad(client, api.Load{Call: call, Rate: 100, Concurrency: atOnce})
		}
	}
	all := func(in ...string) map[string]bool {
		pods := map[string]bool{}
		for _, app := range in {
			for _, p := range e.podsOf(app) {
				pods[p.Name] = true
			}
		}
		return pods
	}
	// stop waits until only these pods have been called for a second, each of them, and ends the loads.
	stop := func(what string, pods map[string]bool) {
		t.Helper()
		for name, l := range loads {
			e.eventually(time.Minute, func() (string, error) {
				r := l.result()
				for pod, last := range r.Last {
					latest := r.Start
					for _, other := range r.Last {
						if other.After(latest) {
							latest = other
						}
					}
					if quiet := latest.Sub(last) > time.Second; quiet == pods[pod] {
						return fmt.Sprintf("%s, %s: pod %s, last called %s before the others", what, name, pod, latest.Sub(last)), nil
					}
				}
				for pod := range pods {
					if r.Pods[pod] < 50 {
						return fmt.Sprintf("%s, %s: %d calls of pod %s", what, name, r.Pods[pod], pod), nil
					}
				}
				return "", nil
			})
			l.noFailures(name + ", " + what)
		}
	}
	start()
	stop("in zone east", all("east"))
	start()
	zone("west")
	stop("in zone west", all("west"))
	start()
	zone("")
	stop("without a zone", all("east", "west"))
}

// The hints that Kubernetes itself writes.
func TestSameNode(t *testing.T) {
	beside(t)
	e := newEnv(t, true)
	e.deploy("server", 2, serverPod())
	e.serviceWith("server", corev1.ServiceSpec{
		Selector: map[string]string{"app": "server"}, Ports: []corev1.ServicePort{port("http", httpPort), port("grpc", grpcPort)},
		TrafficDistribution: new(corev1.ServiceTrafficDistributionPreferSameNode),
	})
	e.ready("server")
	client := e.client()
	e.reachable(client, httpCall, grpcCall)
	slices, err := e.DiscoveryV1().EndpointSlices(e.ns).List(e.ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=server"})
	e.must(err)
	for _, slice := range slices.Items {
		for _, ep := range slice.Endpoints {
			if ep.Hints == nil || len(ep.Hints.ForNodes) == 0 {
				t.Errorf("%s on %s has no hint for a node: %+v", ep.Addresses[0], *ep.NodeName, ep.Hints)
			}
		}
	}
	caller, err := e.CoreV1().Pods(e.ns).Get(e.ctx, client.Name, metav1.GetOptions{})
	e.must(err)
	pods, err := e.Pods(e.ctx, e.ns, "app=server")
	e.must(err)
	near := 0
	for _, p := range pods {
		if p.Spec.NodeName == caller.Spec.NodeName {
			near++
		}
	}
	r := e.startLoad(client, api.Load{Call: grpcCall, Calls: 1000, Concurrency: 4}).wait(time.Minute)
	e.noFailures("gRPC", r, 1000)
	if near == 0 {
		near = len(pods)
	}
	if err := figures.Even(r.Pods, near, 5); err != nil {
		t.Errorf("%d pods on the caller's node: %v", near, err)
	}
}

// recommend makes an EndpointSlice of a Service with the pods of a Deployment, which are recommended to the zone of its name.
func (e *env) recommend(service, app string) {
	e.Helper()
	pods, err := e.Pods(e.ctx, e.ns, "app="+app)
	e.must(err)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: service + "-" + app, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(httpPort))}, {Name: new("grpc"), Port: new(int32(grpcPort))}},
	}
	for _, p := range pods {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{p.Status.PodIP}, NodeName: &p.Spec.NodeName,
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
			Hints:     &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: app}}},
		})
	}
	_, err = e.DiscoveryV1().EndpointSlices(e.ns).Create(e.ctx, slice, metav1.CreateOptions{})
	e.must(err)
}

// zoneOf returns a function that sets the zone of a pod's node. The node gets its own back at the end of the test.
func (e *env) zoneOf(p cluster.Pod) func(zone string) {
	e.Helper()
	pod, err := e.CoreV1().Pods(p.Namespace).Get(e.ctx, p.Name, metav1.GetOptions{})
	e.must(err)
	node, err := e.CoreV1().Nodes().Get(e.ctx, pod.Spec.NodeName, metav1.GetOptions{})
	e.must(err)
	set := func(ctx context.Context, zone string) {
		e.Helper()
		value := "null"
		if zone != "" {
			value = fmt.Sprintf("%q", zone)
		}
		patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, corev1.LabelTopologyZone, value)
		_, err := e.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		e.must(err)
	}
	e.Cleanup(func() { set(context.Background(), node.Labels[corev1.LabelTopologyZone]) })
	return func(zone string) { e.Helper(); set(e.ctx, zone) }
}
