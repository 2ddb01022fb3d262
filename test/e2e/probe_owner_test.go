package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/mizzen-mesh/mizzen/config"
)

func tcpProbe(port int) corev1.ProbeHandler {
	return corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt(port)}}
}

func httpsProbe(path string, port int) corev1.ProbeHandler {
	h := httpProbe(path, port)
	h.HTTPGet.Scheme = corev1.URISchemeHTTPS
	return h
}

// failingProbes fail, and the kubelet's event says how. meshed is what it says of a meshed pod where that is something else.
// POD stands for the pod's address.
var failingProbes = []struct {
	name         string
	handler      corev1.ProbeHandler
	said, meshed string
}{
	{"status", httpProbe("/fail", 8080), "HTTP probe failed with statuscode: 500", ""},
	{"http-closed", httpProbe("/healthz?a=b", 7777), `Get "http://POD:7777/healthz?a=b": dial tcp POD:7777: connect: connection refused`, ""},
	{"https-closed", httpsProbe("/healthz", 7777), `Get "https://POD:7777/healthz": dial tcp POD:7777: connect: connection refused`, ""},
	{"tcp-closed", tcpProbe(7777), "dial tcp POD:7777: connect: connection refused", ""},
	{
		"late", httpProbe("/status?delay=1h", 8080),
		`Get "http://POD:8080/status?delay=1h": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
		`Get "http://POD:15020/app-health/app/readyz": context deadline exceeded (Client.Timeout exceeded while awaiting headers)`,
	},
}

// The kubelet says of each failing probe what it says without the mesh.
func TestProbeEvents(t *testing.T) {
	beside(t)
	for _, mode := range []string{"", string(config.Permissive), string(config.Strict)} {
		e := newEnv(t, mode != "")
		e.crowded()
		if mode != "" {
			e.annotate(config.AnnotationMTLS, mode)
		}
		for _, tt := range failingProbes {
			e.create(e.pod(tt.name, probedPod(tt.handler, true)))
		}
		for _, tt := range failingProbes {
			want := tt.said
			if e.meshed && tt.meshed != "" {
				want = tt.meshed
			}
			e.says(tt.name, want)
		}
	}
}

// says waits until the kubelet says this of a pod's readiness probe.
func (e *env) says(pod, want string) {
	e.Helper()
	e.eventually(readyTimeout, func() (string, error) {
		p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, pod, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		events, err := e.CoreV1().Events(e.ns).List(e.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod + ",reason=Unhealthy"})
		if err != nil {
			return "", err
		}
		want := "Readiness probe failed: " + strings.ReplaceAll(want, "POD", p.Status.PodIP)
		var said []string
		for _, ev := range events.Items {
			if strings.Contains(ev.InvolvedObject.FieldPath, "{app}") && p.Status.PodIP != "" {
				if strings.TrimSpace(ev.Message) == want {
					return "", nil
				}
				said = append(said, ev.Message)
			}
		}
		return fmt.Sprintf("%s, %s: the kubelet says %q, want %q", e.kind(), pod, said, want), nil
	})
}

// What an owner wrote can be applied again, in both of the ways of kubectl.
func TestApplyAgain(t *testing.T) {
	beside(t)
	for _, meshed := range []bool{false, true} {
		e := newEnv(t, meshed)
		e.crowded()
		for _, tc := range probeCases {
			pod := e.pod(tc.name, probedPod(tc.handler, tc.bad))
			pod.APIVersion, pod.Kind = "v1", "Pod"
			manifest, err := json.Marshal(pod)
			e.must(err)
			manifest = bytes.ReplaceAll(manifest, []byte(`,"service":null`), nil) // which nobody writes
			made := e.create(pod)
			made.APIVersion, made.Kind = pod.APIVersion, pod.Kind // the client leaves them out

			schema, err := strategicpatch.NewPatchMetaFromStruct(corev1.Pod{})
			e.must(err)
			live, err := json.Marshal(made)
			e.must(err)
			patch, err := strategicpatch.CreateThreeWayMergePatch(manifest, manifest, live, schema, true)
			e.must(err)
			after, err := e.CoreV1().Pods(e.ns).Patch(e.ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
			rewritten := e.meshed && (tc.handler.HTTPGet != nil || tc.handler.GRPC != nil)
			switch {
			case err != nil:
				t.Errorf("%s, %s: applied again: %v", e.kind(), tc.name, err)
			case after.Generation != made.Generation:
				t.Errorf("%s, %s: applied again, the pod changed (generation %d, %d before)", e.kind(), tc.name, after.Generation, made.Generation)
			case !rewritten && string(patch) != "{}":
				t.Errorf("%s, %s: applied again, kubectl says configured: %s", e.kind(), tc.name, patch)
			}

			_, err = e.CoreV1().Pods(e.ns).Patch(e.ctx, pod.Name, types.ApplyPatchType, manifest, metav1.PatchOptions{FieldManager: "another"})
			if err != nil && (!rewritten || !apierrors.IsConflict(err)) {
				t.Errorf("%s, %s: applied by another: %v", e.kind(), tc.name, err)
			}
		}
		// What Kubernetes refuses it refuses still.
		patch := []byte(`{"spec":{"containers":[{"name":"app","readinessProbe":{"httpGet":{"path":"/other","port":8080}}}]}}`)
		if _, err := e.CoreV1().Pods(e.ns).Patch(e.ctx, "http", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("%s: another path: %v, want it to be refused as invalid", e.kind(), err)
		}
	}
}
