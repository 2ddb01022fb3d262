package e2e

import (
	"fmt"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/config"
)

// ungate lets a pod start that createGated has made.
func (e *env) ungate(name string) {
	e.Helper()
	_, err := e.CoreV1().Pods(e.ns).Patch(e.ctx, name, types.MergePatchType, []byte(`{"spec":{"schedulingGates":null}}`), metav1.PatchOptions{})
	e.must(err)
}

// saysWhyItWaits: a pod whose sidecar waits for the control plane says so in an event and in the sidecar's log.
func (e *env) saysWhyItWaits(pod string) {
	e.Helper()
	reason := "waiting for a certificate from the control plane"
	e.eventually(readyTimeout, func() (string, error) {
		events, err := e.CoreV1().Events(e.ns).List(e.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod + ",reason=Unhealthy"})
		if err != nil {
			return "", err
		}
		said := []string{}
		for _, ev := range events.Items {
			if strings.Contains(ev.Message, reason) && strings.Contains(ev.InvolvedObject.FieldPath, "{"+config.ProxyContainer+"}") {
				return "", nil
			}
			said = append(said, ev.Message)
		}
		return fmt.Sprintf("%s: no event of the sidecar with %q, but %q", pod, reason, said), nil
	})
	for _, container := range []string{config.ProxyContainer, config.CaptureContainer} {
		e.eventually(readyTimeout, func() (string, error) {
			if log := logTail(e.ctx, e.ns, pod, container); !strings.Contains(log, reason) {
				return fmt.Sprintf("log of %s/%s without %q: %s", pod, container, reason, log), nil
			}
			return "", nil
		})
	}
}

// endsWhileItWaits: a pod whose sidecar waits is deleted at once, far within its grace period.
func (e *env) endsWhileItWaits(pod string) {
	e.Helper()
	start := time.Now()
	e.must(e.CoreV1().Pods(e.ns).Delete(e.ctx, pod, metav1.DeleteOptions{}))
	e.eventually(readyTimeout, func() (string, error) {
		_, err := e.CoreV1().Pods(e.ns).Get(e.ctx, pod, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return pod + " is there", err
	})
	took := time.Since(start)
	figure(e.T, "a pod whose sidecar waits is gone after its deletion", round(took).String(), "≤ 10 s")
	if took > 10*time.Second {
		e.Errorf("%s: gone %s after its deletion, with 30 s of grace", pod, took)
	}
}
