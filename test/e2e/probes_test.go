package e2e

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// probeCases are probes of every kind; the bad ones have to keep their pod from getting ready.
var probeCases = []struct {
	name    string
	handler corev1.ProbeHandler
	bad     bool
}{
	{name: "http", handler: httpProbe("/healthz", 8080)},
	{name: "http-query", handler: httpProbe("/status?code=204", 8080)},
	{name: "http-named-port", handler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromString("web")}}},
	{name: "http-headers", handler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
		Path: "/need-header", Port: intstr.FromInt(8080),
		HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Probe", Value: "yes"}, {Name: "Host", Value: "probe.example"}},
	}}},
	{name: "http-redirect", handler: httpProbe("/redirect", 8080)},
	{name: "http-redirect-to-fail", handler: httpProbe("/redirect-to-fail", 8080), bad: true},
	{name: "http-fail", handler: httpProbe("/fail", 8080), bad: true},
	{name: "http-closed", handler: httpProbe("/healthz", 7777), bad: true},
	{name: "https", handler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz", Port: intstr.FromInt(8443), Scheme: corev1.URISchemeHTTPS}}},
	{name: "tcp", handler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromString("web")}}},
	{name: "tcp-closed", handler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(7777)}}, bad: true},
	{name: "grpc", handler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 50051}}},
	{name: "grpc-wrong-service", handler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: 50051, Service: ptr("nope")}}, bad: true},
	{name: "exec", handler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/testapp", "call", "--target=http://127.0.0.1:8080/"}}}},
}

func ptr[T any](v T) *T { return &v }

func TestProbes(t *testing.T) {
	beside(t)
	for _, meshed := range []bool{false, true} {
		e := newEnv(t, meshed)
		e.crowded()
		e.probed()
	}
}

// crowded has the sidecars of a namespace ask for next to nothing: all its pods are to fit on a small node at once.
func (e *env) crowded() {
	e.Helper()
	if e.meshed {
		e.annotate(config.AnnotationCPURequest, "5m")
	}
}

// probed makes a pod for each probe, and asserts what becomes of it.
func (e *env) probed() {
	e.Helper()
	for _, tc := range probeCases {
		e.create(e.pod(tc.name, probedPod(tc.handler, tc.bad)))
	}
	for _, tc := range probeCases {
		pod := cluster.Pod{Namespace: e.ns, Name: tc.name}
		if tc.bad {
			e.staysUnready(pod)
		} else if err := e.WaitPodReady(e.ctx, pod, readyTimeout); err != nil {
			e.Errorf("%s: %v", e.kind(), err)
		}
		if e.meshed {
			e.hasSidecar(pod)
		}
	}
	e.noRestarts()
}

// probedPod has a good handler as all three probes, a bad one as readiness probe alone.
func probedPod(h corev1.ProbeHandler, bad bool) corev1.PodSpec {
	spec := serverPod("server", "--http=:8080", "--grpc=:50051", "--tls=:8443")
	c := &spec.Containers[0]
	c.Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}
	probe := func(failures int32) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: h, PeriodSeconds: 1, TimeoutSeconds: 2, FailureThreshold: failures}
	}
	c.ReadinessProbe = probe(1)
	if !bad {
		c.StartupProbe, c.LivenessProbe = probe(30), probe(10)
	}
	return spec
}

// staysUnready asserts that the probe ran and failed, with the application up: waiting for a while
// would prove less.
func (e *env) staysUnready(pod cluster.Pod) {
	e.Helper()
	e.eventually(readyTimeout, func() (string, error) {
		events, err := e.CoreV1().Events(e.ns).List(e.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod.Name + ",reason=Unhealthy"})
		if err != nil {
			return "", err
		}
		for _, ev := range events.Items {
			if strings.Contains(ev.Message, "Readiness") && strings.Contains(ev.InvolvedObject.FieldPath, "{app}") {
				return "", nil
			}
		}
		return fmt.Sprintf("%s: no failed readiness probe of container app", pod.Name), nil
	})
	p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, pod.Name, metav1.GetOptions{})
	e.must(err)
	if cluster.Ready(p) {
		e.Errorf("%s: %s is ready although its probe fails", e.kind(), pod.Name)
	}
}

// noRestarts asserts that no container of the namespace was ever restarted.
func (e *env) noRestarts() {
	e.Helper()
	pods, err := e.Pods(e.ctx, e.ns, "")
	e.must(err)
	for _, p := range pods {
		for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			if s.RestartCount > 0 {
				e.Errorf("%s: %s/%s restarted %d times", e.kind(), p.Name, s.Name, s.RestartCount)
			}
		}
	}
}

// Lifecycle hooks reach the application: postStart of a second container, preStop of the first.
func TestLifecycleHooks(t *testing.T) {
	beside(t)
	for _, meshed := range []bool{false, true} {
		e := newEnv(t, meshed)
		spec := serverPod()
		hook := func(name string) *corev1.LifecycleHandler {
			return &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/hook?name=" + name, Port: intstr.FromInt(httpPort)}}
		}
		// The kubelet starts the second container once this hook is done, which waits until the first listens.
		wait := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/testapp", "call", "--target=http://127.0.0.1:8080/healthz", "--retry-for=10s"}}}
		spec.Containers[0].Lifecycle = &corev1.Lifecycle{PostStart: wait, PreStop: hook("prestop")}
		side := container("side", "sleep")
		side.Lifecycle = &corev1.Lifecycle{PostStart: hook("poststart")}
		spec.Containers = append(spec.Containers, side)
		e.create(e.pod("hooked", spec))
		pod := cluster.Pod{Namespace: e.ns, Name: "hooked"}
		e.must(e.WaitPodReady(e.ctx, pod, readyTimeout))
		if meshed {
			e.hasSidecar(pod)
		}

		var log strings.Builder
		done := make(chan error, 1)
		go func() { done <- e.FollowLog(e.ctx, pod, "app", func(line string) { log.WriteString(line + "\n") }) }()
		e.must(e.CoreV1().Pods(e.ns).Delete(e.ctx, pod.Name, metav1.DeleteOptions{}))
		e.must(<-done)
		for _, name := range []string{"poststart", "prestop"} {
			if !strings.Contains(log.String(), fmt.Sprintf(`"name":%q`, name)) {
				t.Errorf("%s: the application saw no %s hook:\n%s", e.kind(), name, log.String())
			}
		}
	}
}
