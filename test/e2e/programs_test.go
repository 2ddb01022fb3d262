package e2e

import (
	"cmp"
	"context"
	"embed"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// programsImage has them as they are published (hack/programs).
var programsImage = cmp.Or(os.Getenv("MIZZEN_PROGRAMS_IMAGE"), "mizzen-test/programs:dev")

//go:embed programs
var programFiles embed.FS

// Real servers and real clients do with sidecars what they do without, by declared and undeclared ports, permissive and
// strict. MIZZEN_E2E_WITHOUT_MESH=1 shows what that is.
func TestPrograms(t *testing.T) {
	alone(t)
	e := newEnv(t, true)
	e.programFiles()
	servers := e.programServers()
	callers := []string{"caller", "other"}
	for _, name := range callers {
		e.create(e.pod(name, programPod("sleep", "infinity")))
	}
	outsider := e.pod("outsider", programPod("sleep", "infinity"))
	outsider.Labels[config.LabelInjection] = config.InjectionDisabled
	e.create(outsider)
	addresses := e.programsReady(servers, "caller", "other", "outsider")
	from := func(name string) cluster.Pod { return cluster.Pod{Namespace: e.ns, Name: name} }
	e.redisCluster(from("caller"))

	pass := func(name string, callers ...string) {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			places := make(chan struct{}, 4) // clients begin with much work
			var wg sync.WaitGroup
			for _, p := range programs {
				for _, caller := range callers {
					for _, undeclared := range []bool{false, true} {
						places <- struct{}{}
						wg.Go(func() {
							defer func() { <-places }()
							if err := e.programCall(p, from(caller), addresses[caller], undeclared); err != nil {
								t.Errorf("%s calls %s, undeclared %t: %v", caller, p.name, undeclared, err)
							}
						})
					}
				}
			}
			wg.Wait()
			t.Logf("took %s", time.Since(began).Round(time.Second))
		})
	}
	pass("permissive", "caller", "outsider")
	t.Run("broken connections of probes", func(t *testing.T) { e.brokenByProbes(t) })
	t.Run("connections for each address", func(t *testing.T) {
		var wg sync.WaitGroup
		for _, caller := range callers {
			wg.Go(func() {
				out, err := e.Exec(e.ctx, from(caller), "app", "/programs/call.sh", "zookeeper-many", "zookeeper-0.zookeeper-members", "2181")
				if strings.TrimSpace(out) != "45" || err != nil {
					t.Errorf("%s: %q of 45 connections are served, %v", caller, out, err)
				}
			})
		}
		wg.Wait()
	})
	t.Run("rollout", func(t *testing.T) { e.programRollout(t, from("caller")) })
	e.annotate(config.AnnotationMTLS, string(config.Strict))
	if !withoutMesh {
		e.eventually(modeTime, func() (string, error) {
			if err := e.programCall(programs[0], from("outsider"), addresses["outsider"], false); err == nil {
				return "a caller without a sidecar is served", nil
			}
			return "", nil
		})
	}
	pass("strict", "caller")
}

// programCall makes one call with the client that people use.
func (e *env) programCall(p program, from cluster.Pod, address string, undeclared bool) error {
	host, port := p.serverName(), p.port
	if undeclared {
		host, port = host+"-undeclared", cmp.Or(p.undeclaredPort, port)
	}
	ctx, cancel := context.WithTimeout(e.ctx, programTime)
	defer cancel()
	out, err := e.Exec(ctx, from, "app", "/programs/call.sh", p.name, host, fmt.Sprint(port))
	if err != nil {
		return fmt.Errorf("%w, after %q", err, out)
	}
	return p.want(programCall{out: out, from: address, meshed: from.Name != "outsider"})
}

// brokenByProbes: an ordinary probe of MariaDB's port breaks a handshake each time, and so many lock its address out. In the
// mesh it is over before the sidecar has made a connection of it.
func (e *env) brokenByProbes(t *testing.T) {
	e.eventually(readyTimeout, func() (string, error) {
		out, err := e.Exec(e.ctx, e.podsOf("mariadb")[0], "app", "mariadb", "-S", "/tmp/mysql.sock", "-u", "root", "-Ne", "show global status like 'Aborted_connects'")
		var name string
		var n int
		_, scan := fmt.Sscan(out, &name, &n)
		switch {
		case scan != nil:
			return fmt.Sprintf("the count of broken handshakes, there is %q", out), err
		case withoutMesh && n < 20:
			return fmt.Sprintf("20 broken handshakes, there are %d", n), err
		case !withoutMesh && n > 0:
			e.Fatalf("%d handshakes broken by probes", n)
		}
		return "", err
	})
	for _, p := range programs {
		if p.name == "mariadb" {
			caller := cluster.Pod{Namespace: e.ns, Name: "caller"}
			pod, err := e.CoreV1().Pods(e.ns).Get(e.ctx, caller.Name, metav1.GetOptions{})
			e.must(err)
			if err := e.programCall(p, caller, pod.Status.PodIP, false); err != nil {
				t.Error(err)
			}
		}
	}
}

// programRollout restarts the server behind nginx and HAProxy while both are in use. No call fails.
func (e *env) programRollout(t *testing.T, from cluster.Pod) {
	ctx, stop := context.WithCancel(e.ctx)
	defer stop()
	var wg sync.WaitGroup
	for _, p := range programs {
		if p.name != "nginx" && p.name != "haproxy" {
			continue
		}
		wg.Go(func() {
			script := fmt.Sprintf("n=0; while [ ! -e /tmp/stop ]; do curl -sSf -m 10 -o /dev/null http://%s:8080/ || exit 1; n=$((n + 1)); done; echo $n", p.name)
			out, err := e.Exec(ctx, from, "app", "sh", "-c", script)
			if err != nil {
				t.Errorf("%s: %v", p.name, err)
			}
			t.Logf("%s: %s calls", p.name, strings.TrimSpace(out))
		})
	}
	e.must(e.Restart(e.ctx, e.ns, "backend"))
	e.ready("backend")
	_, err := e.Exec(e.ctx, from, "app", "touch", "/tmp/stop")
	e.must(err)
	wg.Wait()
}

// redisCluster joins the nodes by the addresses of their pods: each tells the others which it has seen.
func (e *env) redisCluster(from cluster.Pod) {
	e.Helper()
	script := `redis-cli --cluster create $(getent ahostsv4 redis-members | awk '{print $1 ":6379"}' | sort -u) --cluster-yes >/dev/null`
	_, err := e.Exec(e.ctx, from, "app", "sh", "-c", script)
	e.must(err)
	e.eventually(readyTimeout, func() (string, error) {
		out, err := e.Exec(e.ctx, from, "app", "redis-cli", "-h", "redis", "cluster", "info")
		if !strings.Contains(out, "cluster_state:ok") || !strings.Contains(out, "cluster_known_nodes:3") {
			return "the nodes have formed a cluster: " + out, err
		}
		return "", err
	})
}

// programFiles are in all pods.
func (e *env) programFiles() {
	e.Helper()
	entries, err := programFiles.ReadDir("programs")
	e.must(err)
	data := map[string]string{}
	for _, f := range entries {
		b, err := programFiles.ReadFile("programs/" + f.Name())
		e.must(err)
		data[f.Name()] = string(b)
	}
	_, err = e.CoreV1().ConfigMaps(e.ns).Create(e.ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "programs"}, Data: data}, metav1.CreateOptions{})
	e.must(err)
}

// programPod runs a command in the image of the programs.
func programPod(command ...string) corev1.PodSpec {
	return corev1.PodSpec{
		Containers: []corev1.Container{{
			Name: "app", Image: programsImage, ImagePullPolicy: corev1.PullIfNotPresent, Command: command,
			Resources:    corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1m")}},
			VolumeMounts: []corev1.VolumeMount{{Name: "programs", MountPath: "/programs"}},
		}},
		Volumes: []corev1.Volume{{Name: "programs", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "programs"}, DefaultMode: new(int32(0o755)),
		}}}},
		TerminationGracePeriodSeconds: new(int64(5)),
	}
}

// programServers starts all servers, each with two Services: one declares the port as the server's chart does, of the other
// the protocol has to be found out. It gives the names of the Deployments, and of the pods that have names of their own.
func (e *env) programServers() (servers programServers) {
	e.Helper()
	servers.deployments = []string{"echo", "backend"}
	e.deploy("echo", 3, serverPod())
	backend := programPod("/programs/serve.sh", "backend")
	backend.Containers[0].ReadinessProbe = portProbe(8080)
	// As its chart has it: nginx ends connections when it is told to end.
	backend.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}}}
	e.deploy("backend", 2, backend)
	seen := map[string]bool{"echo": false, "backend": false}
	for _, p := range programs {
		name := p.serverName()
		if _, ok := seen[name]; !ok {
			spec := programPod("/programs/serve.sh", name)
			spec.Containers[0].ReadinessProbe = portProbe(int(p.port))
			if p.replicas > 1 {
				e.serviceWith(name+"-members", corev1.ServiceSpec{
					Selector: map[string]string{"app": name}, ClusterIP: corev1.ClusterIPNone, PublishNotReadyAddresses: true,
					Ports: []corev1.ServicePort{port(p.declared, p.port)},
				})
				e.statefulSet(name, name+"-members", p.replicas, spec)
				for i := range p.replicas {
					servers.members = append(servers.members, fmt.Sprintf("%s-%d", name, i))
				}
			} else {
				e.deploy(name, 1, spec)
				servers.deployments = append(servers.deployments, name)
			}
		}
		if !seen[name] {
			seen[name] = true
			e.service(name, name, port(p.declared, p.port))
			e.service(name+"-undeclared", name, port("", cmp.Or(p.undeclaredPort, p.port)))
		}
	}
	return servers
}

type programServers struct{ deployments, members []string }

func portProbe(port int) *corev1.Probe {
	return &corev1.Probe{PeriodSeconds: 1, TimeoutSeconds: 5, FailureThreshold: 60, ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(port)}}}
}

// programsReady waits for all servers and for pods that only call, and gives the addresses of these.
func (e *env) programsReady(servers programServers, callers ...string) map[string]string {
	e.Helper()
	e.ready(servers.deployments...)
	for _, name := range servers.members {
		e.eventually(readyTimeout, func() (string, error) {
			p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, name, metav1.GetOptions{})
			if apierrors.IsNotFound(err) {
				return "pod " + name, nil
			}
			if err != nil || cluster.Ready(p) {
				return "", err
			}
			return cluster.PodState(p), nil
		})
	}
	addresses := map[string]string{}
	for _, name := range callers {
		e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: name}, readyTimeout))
		p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, name, metav1.GetOptions{})
		e.must(err)
		addresses[name] = p.Status.PodIP
	}
	return addresses
}
