package e2e

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// side is one environment of the comparison: the same applications in a namespace of its own.
type side struct {
	*env
	client, self cluster.Pod
	// vars are what {name} in a case's target stands for.
	vars *strings.Replacer
}

// Scenario 15: every item of the list is called without and with the mesh, and answers the same.
func TestTransparency(t *testing.T) {
	beside(t)
	plain, meshed := newEnv(t, false), newEnv(t, true)
	outside := newEnv(t, false).outsideWorld()
	sides := []*side{{env: plain}, {env: meshed}}
	for _, s := range sides {
		s.applications(outside)
	}
	for _, s := range sides {
		s.awaitApplications()
	}
	sides[0].fill(outside, meshed.ns)
	sides[1].fill(outside, plain.ns)
	for _, tc := range transparencyCases {
		t.Run(tc.name, func(t *testing.T) {
			for _, s := range sides {
				s.check(t, tc)
			}
		})
	}
}

// check makes the call of a case on one side. Kubernetes programs its own Services a moment after pods
// are ready and the mesh does it in its own time, so an answer that is not the wanted one is asked for
// again for a little while; the time of the call is only held for the last answer.
func (s *side) check(t *testing.T, tc transparencyCase) {
	t.Helper()
	want, call, from := tc.want, tc.call, s.client
	if s.meshed && tc.meshed != "" {
		want = tc.meshed
	}
	if tc.self {
		from = s.self
	}
	call.Target = s.vars.Replace(call.Target)
	if strings.Contains(call.Target, "{") {
		if tc.needsIPv6 {
			t.Skipf("%s: the cluster has no IPv6", s.kind())
		}
		t.Fatalf("%s: target %q has a name that is not known", s.kind(), call.Target)
	}
	if call.Timeout == 0 {
		call.Timeout = 4 * time.Second
	}
	matches := regexp.MustCompile("^(?:" + want + ")$").MatchString
	var a api.Answer
	limit := cmp.Or(tc.within, 3*time.Second)
	// Slow once may be the machine, slow each time is not.
	err := cluster.Poll(t.Context(), 30*time.Second, func(ctx context.Context) (string, error) {
		if err := s.JSON(ctx, "POST", from, api.ControlPort, "/call", call, &a); err != nil {
			return "", err
		}
		if !matches(a.Text) {
			return fmt.Sprintf("%q (%s)", a.Text, a.Error), nil
		}
		if a.Elapsed > limit {
			return fmt.Sprintf("%q took %s, want at most %s", a.Text, a.Elapsed, limit), nil
		}
		return "", nil
	})
	switch {
	case err != nil:
		t.Errorf("%s: %s %s: want %q, %v", s.kind(), call.Kind, call.Target, want, err)
	case tc.self && a.Pod != s.self.Name:
		t.Errorf("%s: pod %s called its own Service, %s answered", s.kind(), s.self.Name, a.Pod)
	}
}

// outside is a pod that no mesh knows: in a namespace without the label, on the node's own network.
type outside struct {
	hostIP, podIP string
}

func (e *env) outsideWorld() outside {
	e.Helper()
	// Ports below those that the node gives to connections of its own.
	host := serverPod("server", "--http=:9880", "--tls=:9843", "--mysql=:9806", "--control=:9890")
	host.HostNetwork = true
	host.Containers[0].ReadinessProbe.HTTPGet.Port.IntVal = 9890
	e.create(e.pod("host", host))
	e.create(e.pod("stranger", serverPod("server", "--http=:8080", "--mysql=:3306", "--tls=:8443")))
	o := outside{}
	for name, ip := range map[string]*string{"host": &o.hostIP, "stranger": &o.podIP} {
		e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: name}, readyTimeout))
		p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, name, metav1.GetOptions{})
		e.must(err)
		*ip = p.Status.PodIP
	}
	return o
}

// awaitApplications waits for everything that applications made.
func (s *side) awaitApplications() {
	s.Helper()
	s.ready("server", "self")
	for _, name := range []string{"sts-0", "sts-1", "client"} {
		s.must(s.WaitPodReady(s.ctx, cluster.Pod{Namespace: s.ns, Name: name}, readyTimeout))
	}
	s.client, s.self = cluster.Pod{Namespace: s.ns, Name: "client"}, s.podsOf("self")[0]
	// The pod that is never ready must at least run and have an address.
	s.eventually(readyTimeout, func() (string, error) {
		pods, err := s.Pods(s.ctx, s.ns, "app=unready")
		if err != nil || len(pods) == 1 && running(pods[0]) {
			return "", err
		}
		return "pod of unready does not run", nil
	})
	if s.meshed {
		s.hasSidecar(s.client)
		s.hasSidecar(s.self)
	}
}

func running(p corev1.Pod) bool {
	return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Running != nil
}

// fill gives the values of {names} in targets.
func (s *side) fill(o outside, otherNS string) {
	s.Helper()
	server := s.podsOf("server")[0]
	p, err := s.CoreV1().Pods(s.ns).Get(s.ctx, server.Name, metav1.GetOptions{})
	s.must(err)
	svc, err := s.CoreV1().Services(s.ns).Get(s.ctx, "dual", metav1.GetOptions{})
	s.must(err)
	pairs := []string{
		"{ns}", s.ns, "{other}", otherNS, "{host}", o.hostIP, "{stranger}", o.podIP,
		"{pod}", p.Status.PodIP, "{service}", svc.Spec.ClusterIP,
	}
	for _, ip := range svc.Spec.ClusterIPs {
		if strings.Contains(ip, ":") {
			pairs = append(pairs, "{service6}", "["+ip+"]")
		}
	}
	for _, ip := range p.Status.PodIPs {
		if strings.Contains(ip.IP, ":") {
			pairs = append(pairs, "{pod6}", "["+ip.IP+"]")
		}
	}
	s.vars = strings.NewReplacer(pairs...)
}
