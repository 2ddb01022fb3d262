package xds

import (
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// What a pod's ports are taken for follows the Services that select it, while policies keep somebody away from it.
func TestDeclaredPortsOfPods(t *testing.T) {
	f := newFakeCluster(t)
	pod := meshedPod("cart-0", "cart")
	pod.Spec.Containers = []corev1.Container{{Name: "cart", Ports: []corev1.ContainerPort{{Name: "main", ContainerPort: 8080}}}}
	f.pods.Add(pod)
	service := func(portName, app string) *corev1.Service {
		s := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Name: portName, Port: 80}}},
		}
		s.Spec.Ports[0].TargetPort.Type, s.Spec.Ports[0].TargetPort.StrVal = 1, "main"
		return s
	}
	f.services.Add(service("http", "cart"))
	c := NewController(Options{Source: f.source, Store: server.NewStore(), Config: config.Default(), Log: logr.Discard(), Statuses: noStatuses{}})
	if !f.source.Sync(t.Context()) {
		t.Fatal("no sync")
	}
	if err := c.first(t.Context()); err != nil {
		t.Fatal(err)
	}
	class := func() string { return c.inbounds.classes[node.Pod{Namespace: "shop", Name: "cart-0", UID: "uid-of-x"}] }
	follow := func(what string, done func(http, judged bool) bool) {
		t.Helper()
		for deadline := time.After(10 * time.Second); !done(strings.Contains(class(), "http=[8080]"), strings.Contains(class(), "policies=")); {
			select {
			case <-f.source.Changed():
				c.take(t.Context(), f.source.Take())
			case <-deadline:
				t.Fatalf("not within 10 s: %s; class %s", what, class())
			}
		}
	}
	http := func(http, judged bool) bool { return http && judged }
	bytes := func(http, judged bool) bool { return !http && judged }
	follow("without policies nobody looks", func(http, judged bool) bool { return !http && !judged })
	f.authorization.Add(policyFor("first", "cart"))
	follow("a policy", http)
	f.services.Modify(service("tcp", "cart"))
	follow("the port is declared TCP", bytes)
	f.services.Modify(service("grpc", "cart"))
	follow("and HTTP again", http)
	f.services.Modify(service("grpc", "web"))
	follow("the Service is another pod's", bytes)
	f.services.Modify(service("grpc", "cart"))
	follow("its own again", http)
	f.services.Delete(service("grpc", "cart"))
	follow("no Service", bytes)
	if len(c.inbounds.declared) != 0 {
		t.Errorf("still known: %v", c.inbounds.declared)
	}
	f.services.Add(service("http", "cart"))
	follow("a Service", http)
	dry := policyFor("first", "cart")
	dry.Spec.DryRun, dry.Generation = true, 2
	f.authorization.Modify(dry)
	follow("nobody is refused in dry run", bytes)
}
