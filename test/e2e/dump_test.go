package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

const (
	// dumpPods is how many pods of a failed test are shown in full, those that are not ready first.
	dumpPods  = 4
	dumpLines = int64(60)
	// recent events are shown; the control plane's namespace keeps an hour of them.
	recent = 5 * time.Minute
	// dumpTimeout bounds a dump, pageTimeout one page of a sidecar that may be gone.
	dumpTimeout, pageTimeout = time.Minute, 3 * time.Second
)

// agentPaths are read from the sidecars of a failed test; what is not there is left out.
var agentPaths = []string{"readyz", "metrics"}

// dump is what can be known about a namespace after a failure: pods, events, logs, Envoy, and the
// control plane. It reports what it cannot read and goes on.
func dump(ctx context.Context, ns string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "──── namespace %s ────\n", ns)
	pods, err := mesh.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return b.String() + err.Error()
	}
	for _, p := range pods.Items {
		fmt.Fprintf(&b, "%s %s deleted=%t %s\n", p.Name, p.Status.PodIP, p.DeletionTimestamp != nil, cluster.PodState(&p))
	}
	b.WriteString(eventDump(ctx, ns))
	for _, p := range interesting(pods.Items) {
		b.WriteString(podDump(ctx, &p))
	}
	return b.String() + controlPlaneDump(ctx)
}

// interesting picks the pods to show in full.
func interesting(pods []corev1.Pod) []corev1.Pod {
	var bad, good []corev1.Pod
	for _, p := range pods {
		if cluster.Ready(&p) {
			good = append(good, p)
		} else {
			bad = append(bad, p)
		}
	}
	all := slices.Concat(bad, good)
	return all[:min(len(all), dumpPods)]
}

func eventDump(ctx context.Context, ns string) string {
	var b strings.Builder
	events, err := mesh.CoreV1().Events(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error() + "\n"
	}
	b.WriteString("── recent warnings\n")
	for _, ev := range events.Items {
		if ev.Type != corev1.EventTypeNormal && time.Since(ev.CreationTimestamp.Time) < recent {
			fmt.Fprintf(&b, "%d× %s %s/%s: %s\n", max(1, ev.Count), ev.Reason, ev.InvolvedObject.Kind, ev.InvolvedObject.Name, ev.Message)
		}
	}
	return b.String()
}

func podDump(ctx context.Context, p *corev1.Pod) string {
	var b strings.Builder
	for _, name := range cluster.Containers(p) {
		fmt.Fprintf(&b, "── log of %s/%s\n%s\n", p.Name, name, logTail(ctx, p.Namespace, p.Name, name))
	}
	for _, path := range agentPaths {
		if p.Status.Phase != corev1.PodRunning {
			break
		}
		page, cancel := context.WithTimeout(ctx, pageTimeout)
		status, body, err := mesh.Get(page, cluster.Pod{Namespace: p.Namespace, Name: p.Name}, config.AgentPort, path)
		cancel()
		if err == nil && status == 200 {
			fmt.Fprintf(&b, "── %s :%d/%s\n%s\n", p.Name, config.AgentPort, path, notable(string(body)))
		}
	}
	return b.String()
}

// notable keeps what helps of a long page: no help lines, no zeros.
func notable(page string) string {
	var b strings.Builder
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, "#") || strings.HasSuffix(line, " 0\n") || strings.Contains(line, "_bucket") {
			continue
		}
		b.WriteString(line)
	}
	s := b.String()
	return s[:min(len(s), 20_000)]
}

func logTail(ctx context.Context, ns, pod, container string) string {
	n := dumpLines
	out, err := mesh.CoreV1().Pods(ns).GetLogs(pod, &corev1.PodLogOptions{Container: container, TailLines: &n}).DoRaw(ctx)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

func controlPlaneDump(ctx context.Context) string {
	pods, err := mesh.CoreV1().Pods(cluster.SystemNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	b.WriteString("──── control plane ────\n")
	for _, p := range pods.Items {
		fmt.Fprintf(&b, "%s %s\n", p.Name, cluster.PodState(&p))
		for _, name := range cluster.Containers(&p) {
			fmt.Fprintf(&b, "── log of %s/%s\n%s\n", p.Name, name, logTail(ctx, p.Namespace, p.Name, name))
		}
	}
	if len(pods.Items) > 0 {
		pod := cluster.Pod{Namespace: cluster.SystemNamespace, Name: pods.Items[0].Name}
		if body, err := mesh.Debug(ctx, pod, config.ControllerHTTPPort, "debug/proxies"); err == nil {
			fmt.Fprintf(&b, "── %s /debug/proxies\n%s\n", pod.Name, notable(string(body)))
		}
	}
	b.WriteString(eventDump(ctx, cluster.SystemNamespace))
	return b.String()
}
