package e2e

import (
	"cmp"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// testImage is the image of test/e2e/testapp.
var testImage = cmp.Or(os.Getenv("MIZZEN_TEST_IMAGE"), "mizzen-test/app:dev")

// Ports on which defaultServer listens.
const (
	httpPort, grpcPort = 8080, 50051
)

var defaultServer = []string{"server", "--http=:8080", "--grpc=:50051"}

// container runs the test application.
func container(name string, args ...string) corev1.Container {
	return corev1.Container{
		Name: name, Image: testImage, ImagePullPolicy: corev1.PullIfNotPresent, Args: args,
		Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m")}},
	}
}

// readiness asks the control port, as often as Kubernetes can. A slow answer is none of a pod that is not ready: where many pods start
// beside it, all of a Service's would be taken out at once.
func readiness() *corev1.Probe {
	return &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 10, FailureThreshold: 2, ProbeHandler: httpProbe("/healthz", api.ControlPort)}
}

func httpProbe(path string, port int) corev1.ProbeHandler {
	return corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt(port)}}
}

// serverPod is a pod of the test application with args, or the default server.
func serverPod(args ...string) corev1.PodSpec {
	if len(args) == 0 {
		args = defaultServer
	}
	c := container("app", args...)
	c.ReadinessProbe = readiness()
	return corev1.PodSpec{Containers: []corev1.Container{c}}
}

// pod makes a pod object named name and labelled app=name.
func (e *env) pod(name string, spec corev1.PodSpec) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: e.ns, Labels: map[string]string{"app": name}}, Spec: spec}
}

func (e *env) create(p *corev1.Pod) *corev1.Pod {
	e.Helper()
	created, err := e.CoreV1().Pods(e.ns).Create(e.ctx, p, metav1.CreateOptions{})
	e.must(err)
	return created
}

// deploy makes a Deployment named name, labelled app=name. It does not wait.
func (e *env) deploy(name string, replicas int32, spec corev1.PodSpec) {
	e.Helper()
	labels := map[string]string{"app": name}
	surge, unavailable := intstr.FromString("50%"), intstr.FromInt(0)
	_, err := e.AppsV1().Deployments(e.ns).Create(e.ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
			Strategy: appsv1.DeploymentStrategy{
				Type:          appsv1.RollingUpdateDeploymentStrategyType,
				RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &surge, MaxUnavailable: &unavailable},
			},
		},
	}, metav1.CreateOptions{})
	e.must(err)
}

// port of a Service, to the port of the same number.
func port(name string, number int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: number, TargetPort: intstr.FromInt32(number)}
}

// portTo is a port of a Service to another number or name.
func portTo(name string, number int32, target intstr.IntOrString) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: number, TargetPort: target}
}

// service makes a Service over the pods labelled app=app.
func (e *env) service(name, app string, ports ...corev1.ServicePort) {
	e.Helper()
	e.serviceWith(name, corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: ports})
}

func (e *env) headless(name, app string, ports ...corev1.ServicePort) {
	e.Helper()
	e.serviceWith(name, corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: ports, ClusterIP: corev1.ClusterIPNone})
}

// statefulSet makes one named name, labelled app=name, whose pods have names below the headless Service.
func (e *env) statefulSet(name, service string, replicas int32, spec corev1.PodSpec) {
	e.Helper()
	labels := map[string]string{"app": name}
	_, err := e.AppsV1().StatefulSets(e.ns).Create(e.ctx, &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.StatefulSetSpec{
			Replicas: &replicas, ServiceName: service, PodManagementPolicy: appsv1.ParallelPodManagement,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: spec},
		},
	}, metav1.CreateOptions{})
	e.must(err)
}

func (e *env) serviceWith(name string, spec corev1.ServiceSpec) {
	e.Helper()
	_, err := e.CoreV1().Services(e.ns).Create(e.ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
	e.must(err)
}

// server makes a Deployment and a Service of the default server, and waits for nothing.
func (e *env) server(name string, replicas int32) {
	e.Helper()
	e.deploy(name, replicas, serverPod())
	e.service(name, name, port("http", httpPort), port("grpc", grpcPort))
}

// ready waits for Deployments.
func (e *env) ready(names ...string) {
	e.Helper()
	for _, name := range names {
		e.must(e.WaitDeployment(e.ctx, e.ns, name, readyTimeout))
	}
}

// podsOf names the live pods of a Deployment.
func (e *env) podsOf(app string) []cluster.Pod {
	e.Helper()
	pods, err := e.Pods(e.ctx, e.ns, "app="+app)
	e.must(err)
	names := make([]cluster.Pod, len(pods))
	for i, p := range pods {
		names[i] = cluster.Pod{Namespace: e.ns, Name: p.Name}
	}
	return names
}

// client makes a pod that only makes calls, and waits for it.
func (e *env) client() cluster.Pod {
	e.Helper()
	e.create(e.pod("client", serverPod("server")))
	p := cluster.Pod{Namespace: e.ns, Name: "client"}
	e.must(e.WaitPodReady(e.ctx, p, readyTimeout))
	if e.meshed {
		e.hasSidecar(p)
	}
	return p
}

// grpcCall and httpCall go to the Service that env.server makes under the name "server".
var (
	grpcCall = api.Call{Kind: api.GRPC, Target: fmt.Sprintf("server:%d", grpcPort)}
	httpCall = api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://server:%d/", httpPort)}
)
