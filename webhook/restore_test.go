package webhook

import (
	"encoding/json"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
)

const probedPod = `{"metadata":{"name":"web","namespace":"shop"},"spec":{"containers":[{"name":"web","image":"web:1",
	"ports":[{"name":"http","containerPort":8080}],
	"livenessProbe":{"httpGet":{"path":"/live","port":"http"},"periodSeconds":7},
	"readinessProbe":{"grpc":{"port":9090}},
	"startupProbe":{"httpGet":{"path":"/start","port":8443,"scheme":"HTTPS","httpHeaders":[{"name":"X-A","value":"b"}]}},
	"lifecycle":{"postStart":{"httpGet":{"path":"/hello","port":8080}}}},
	{"name":"db","image":"db:1","readinessProbe":{"tcpSocket":{"port":5432}}}]}}`

// Manifests are applied to the running pod as kubectl apply does it.
func TestRestore(t *testing.T) {
	running, _, err := Inject(parse(t, probedPod), Namespace{}, testMesh(), testVersion, nil, testKey)
	if err != nil {
		t.Fatal(err)
	}
	// What stays after the restoration of what is to be as it was.
	for name, tt := range map[string]struct {
		was, now string
		want     func(*corev1.Pod)
	}{
		"unchanged": {},
		"a header more, as of an atomic list": {`"value":"b"}`, `"value":"b"},{"name":"X-C","value":"d"}`, func(p *corev1.Pod) {
			p.Spec.Containers[0].StartupProbe.HTTPGet = parse(t, probedPod).Spec.Containers[0].StartupProbe.HTTPGet
			headers := &p.Spec.Containers[0].StartupProbe.HTTPGet.HTTPHeaders
			*headers = append(*headers, corev1.HTTPHeader{Name: "X-C", Value: "d"})
		}},
		"another threshold": {`"periodSeconds":7`, `"periodSeconds":8`, func(p *corev1.Pod) {
			p.Spec.Containers[0].LivenessProbe.PeriodSeconds = 8
		}},
		"another path": {"/live", "/alive", func(p *corev1.Pod) {
			get := p.Spec.Containers[0].LivenessProbe.HTTPGet
			get.Path, get.Port = "/alive", parse(t, probedPod).Spec.Containers[0].LivenessProbe.HTTPGet.Port
		}},
		"another service": {`"port":9090`, `"port":9090,"service":"cart"`, func(p *corev1.Pod) {
			p.Spec.Containers[0].ReadinessProbe.GRPC = &corev1.GRPCAction{Port: 9090, Service: new("cart")}
		}},
		"another image": {"web:1", "web:2", func(p *corev1.Pod) { p.Spec.Containers[0].Image = "web:2" }},
		"another TCP port": {"5432", "5433", func(p *corev1.Pod) {
			p.Spec.Containers[1].ReadinessProbe.TCPSocket.Port.IntVal = 5433
		}},
	} {
		t.Run(name, func(t *testing.T) {
			update := applyAgain(t, running, probedPod, strings.Replace(probedPod, tt.was, tt.now, 1))
			want := running.DeepCopy()
			if tt.want != nil {
				tt.want(want)
			}
			if diff := cmp.Diff(want, Restore(running, update)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A pod without our sidecar is not looked at, whatever its probes are like.
func TestRestoreNothing(t *testing.T) {
	pod := parse(t, probedPod)
	update := parse(t, strings.Replace(probedPod, "/live", "/app-health/web/livez", 1))
	if diff := cmp.Diff(update, Restore(pod, update)); diff != "" {
		t.Error(diff)
	}
}

func TestHandlerRestores(t *testing.T) {
	r := newRig(t)
	running, _, err := Inject(parse(t, probedPod), Namespace{}, testMesh(), testVersion, nil, testKey)
	if err != nil {
		t.Fatal(err)
	}
	update := applyAgain(t, running, probedPod, probedPod)
	response := r.post(t, string(mustJSON(t, update)), func(req *admissionv1.AdmissionRequest) {
		req.Operation, req.OldObject.Raw = admissionv1.Update, mustJSON(t, running)
	})
	if !response.Allowed || len(response.Patch) == 0 || r.count(t, resultRestored, "") != 1 {
		t.Fatalf("allowed %v, patch %s, restored %v", response.Allowed, response.Patch, r.count(t, resultRestored, ""))
	}
	patch, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		t.Fatal(err)
	}
	restored, err := patch.Apply(mustJSON(t, update))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(running, parse(t, string(restored))); diff != "" {
		t.Error(diff)
	}
}

// apply brings the difference of two manifests, and of the new one and the running pod, into the running pod.
func applyAgain(t *testing.T, running *corev1.Pod, was, now string) *corev1.Pod {
	t.Helper()
	schema, err := strategicpatch.NewPatchMetaFromStruct(corev1.Pod{})
	if err != nil {
		t.Fatal(err)
	}
	current := mustJSON(t, running)
	patch, err := strategicpatch.CreateThreeWayMergePatch([]byte(was), []byte(now), current, schema, true)
	if err != nil {
		t.Fatal(err)
	}
	out, err := strategicpatch.StrategicMergePatch(current, patch, corev1.Pod{})
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, string(out))
}

func parse(t *testing.T, text string) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := json.Unmarshal([]byte(text), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}
