package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// The application sees the address of the pod that calls, by every way and in every mode, and its probes come from
// where they come from without the mesh: from an address that no pod has.
func TestCallerAddresses(t *testing.T) {
	beside(t)
	e := newEnv(t, true)
	spec := serverPod()
	spec.Containers[0].StartupProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 60, ProbeHandler: httpProbe("/peer?name=probe", httpPort)}
	spec.Containers[0].LivenessProbe = &corev1.Probe{PeriodSeconds: 1, FailureThreshold: 60, ProbeHandler: corev1.ProbeHandler{
		TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(grpcPort)},
	}}
	e.create(e.pod("server", spec))
	judged := e.pod("judged", serverPod())
	judged.Annotations = map[string]string{config.AnnotationForwardClientCert: fmt.Sprint(httpPort)}
	e.create(judged)
	strict := e.pod("strict", serverPod())
	strict.Annotations = map[string]string{config.AnnotationMTLS: string(config.Strict)}
	e.create(strict)
	names := []string{"server", "judged", "strict"}
	for _, name := range names {
		e.service(name, name, port("http", httpPort))
	}
	callers := []cluster.Pod{e.callerAs("web", nil), e.callerAs("plain", map[string]string{config.LabelInjection: config.InjectionDisabled})}
	addresses := map[string]string{}
	pods, err := e.Pods(e.ctx, e.ns, "")
	e.must(err)
	for _, p := range pods {
		e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: p.Name}, readyTimeout))
		ready, err := e.CoreV1().Pods(e.ns).Get(e.ctx, p.Name, metav1.GetOptions{})
		e.must(err)
		addresses[p.Name] = ready.Status.PodIP
	}
	for _, from := range callers {
		for _, name := range names {
			if name == "strict" && from.Name == "plain" && !withoutMesh {
				continue
			}
			for _, host := range []string{name, addresses[name]} {
				c := api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://%s:%d/peer", host, httpPort), Want: "peer=" + addresses[from.Name] + ";", Timeout: 5 * time.Second}
				e.reachable(from, c)
				if a := e.call(from, c); !a.OK {
					t.Errorf("%s to %s by %s: the application saw %q, want %s", from.Name, name, host, a.Text, addresses[from.Name])
				}
			}
		}
	}
	_, seen, err := e.Get(e.ctx, cluster.Pod{Namespace: e.ns, Name: "server"}, api.ControlPort, "/hooks")
	e.must(err)
	if !strings.Contains(string(seen), "probe ") {
		t.Errorf("no probe has come: %q", seen)
	}
	for name, address := range addresses {
		if strings.Contains(string(seen), "probe "+address) {
			t.Errorf("a probe came from the address of pod %s: %q", name, seen)
		}
	}
}
