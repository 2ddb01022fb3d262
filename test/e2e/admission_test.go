package e2e

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// A bad annotation refuses the pod, and the message names the key, the value and what is allowed.
func TestBadAnnotation(t *testing.T) {
	beside(t)
	e := newEnv(t, true)
	for _, tc := range []struct {
		key, value string
		allowed    []string
	}{
		{config.AnnotationLogLevel, "loud", []string{"debug", "warning"}},
		{config.AnnotationConcurrency, "many", []string{"0"}},
		{config.AnnotationCPURequest, "a lot", nil},
		{config.AnnotationExcludeInboundPorts, "80,99999", []string{"65535"}},
		{config.AnnotationExcludeOutboundCIDRs, "10.0.0.0", []string{"/"}},
		{config.AnnotationDrainDelay, "soon", []string{"s"}},
		{config.AnnotationMTLS, "sometimes", []string{"permissive", "strict"}},
		{config.AnnotationMTLSPorts, "8080=on", []string{"permissive", "strict"}},
	} {
		t.Run(strings.TrimPrefix(tc.key, config.Group+"/"), func(t *testing.T) {
			p := e.pod("bad", serverPod())
			p.Annotations = map[string]string{tc.key: tc.value}
			_, err := e.CoreV1().Pods(e.ns).Create(t.Context(), p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err == nil {
				t.Fatalf("%s: %q was let in", tc.key, tc.value)
			}
			for _, want := range append(tc.allowed, tc.key, tc.value) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("the message lacks %q: %v", want, err)
				}
			}
		})
	}
	// The key itself misspelt would do nothing, silently.
	p := e.pod("good", serverPod())
	p.Annotations = map[string]string{config.AnnotationLogLevel: "info", config.AnnotationConcurrency: "1"}
	e.create(p)
	e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "good"}, readyTimeout))
}

// The label on a pod beats that of its namespace, both ways.
func TestPodLevelOverride(t *testing.T) {
	beside(t)
	for _, tc := range []struct {
		namespace bool
		label     string
		sidecar   bool
	}{{true, "disabled", false}, {false, "enabled", true}, {true, "", true}, {false, "", false}} {
		e := newEnv(t, tc.namespace)
		p := e.pod("server", serverPod())
		if tc.label != "" {
			p.Labels[config.LabelInjection] = tc.label
		}
		created := e.create(p)
		if got := len(created.Spec.InitContainers) > 0; got != tc.sidecar {
			t.Errorf("namespace %s, pod label %q: sidecar=%t, want %t", e.kind(), tc.label, got, tc.sidecar)
		}
		e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "server"}, readyTimeout))
	}
}

// An appProtocol that nobody knows is carried as bytes, and an event on the Service says so.
func TestUnknownAppProtocol(t *testing.T) {
	beside(t)
	const protocol = "example.com/unheard-of"
	e := newEnv(t, true)
	e.deploy("server", 1, serverPod("server", "--http=:8080", "--mysql=:3306"))
	web, db := port("http", 8080), port("http-db", 3306)
	web.AppProtocol, db.AppProtocol = ptr(protocol), ptr(protocol)
	e.service("server", "server", web, db)
	client := e.client()
	e.ready("server")
	for _, c := range []api.Call{{Kind: api.HTTP, Target: "http://server:8080/"}, {Kind: api.MySQL, Target: "server:3306"}} {
		e.reachable(client, c)
	}
	e.eventually(30*time.Second, func() (string, error) {
		events, err := e.CoreV1().Events(e.ns).List(e.ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=Service,involvedObject.name=server"})
		if err != nil {
			return "", err
		}
		for _, ev := range events.Items {
			if strings.Contains(ev.Message, protocol) && ev.Type == corev1.EventTypeWarning {
				return "", nil
			}
		}
		return "no warning on Service server that names " + protocol, nil
	})
}

// refusedClearly asserts how a pod is refused while the control plane is away.
func (e *env) refusedClearly(p *corev1.Pod) {
	e.Helper()
	_, err := e.CoreV1().Pods(e.ns).Create(e.ctx, p, metav1.CreateOptions{})
	switch {
	case err == nil:
		e.Errorf("pod %s of a labelled namespace was let in without a control plane", p.Name)
	case !apierrors.IsInternalError(err) && !apierrors.IsForbidden(err) && !apierrors.IsServiceUnavailable(err):
		e.Errorf("pod %s: refused with %v", p.Name, err)
	case !strings.Contains(err.Error(), "webhook") || !strings.Contains(err.Error(), config.Group):
		e.Errorf("pod %s: the message names no webhook of %s: %v", p.Name, config.Group, err)
	}
}
