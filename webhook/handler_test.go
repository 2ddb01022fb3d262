package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// rig is a handler with everything it touches within reach.
type rig struct {
	http.Handler
	registry *prometheus.Registry
	events   chan string
}

func newRig(t testing.TB) *rig {
	t.Helper()
	return newRigWith(t, nil)
}

// newRigWith takes the mesh's roots, as Options has them.
func newRigWith(t testing.TB, trustBundle func() ([]byte, error)) *rig {
	t.Helper()
	recorder := &events.FakeRecorder{Events: make(chan string, 10), Verbose: true}
	registry := prometheus.NewRegistry()
	return &rig{
		Handler: NewHandler(Options{
			Config:                testMesh(),
			Version:               testVersion,
			ControlPlaneNamespace: config.SystemNamespace,
			NamespaceLabels: func(_ context.Context, name string) (map[string]string, error) {
				switch name {
				case "panics":
					panic("namespace cache")
				case "unreadable":
					return nil, errors.New("no cache yet")
				case "shop":
					return map[string]string{config.LabelInjection: config.InjectionEnabled}, nil
				default:
					return nil, nil
				}
			},
			TrustBundle: trustBundle,
			Recorder:    recorder,
			Registerer:  registry,
			Log:         logr.Discard(),
		}),
		registry: registry,
		events:   recorder.Events,
	}
}

func (r *rig) count(t *testing.T, result, reason string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != "mizzen_injection_total" {
			continue
		}
		for _, m := range family.GetMetric() {
			if m.GetLabel()[0].GetValue() == reason && m.GetLabel()[1].GetValue() == result {
				return m.GetCounter().GetValue()
			}
		}
	}
	return 0
}

// post sends a pod's creation, changed by change, and gives the response.
func (r *rig) post(t *testing.T, pod string, change func(*admissionv1.AdmissionRequest)) *admissionv1.AdmissionResponse {
	t.Helper()
	review := &admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{UID: "u1", Namespace: "shop", Operation: admissionv1.Create}}
	review.APIVersion, review.Kind = "admission.k8s.io/v1", "AdmissionReview"
	review.Request.Resource.Version, review.Request.Resource.Resource = "v1", "pods"
	review.Request.Object.Raw = []byte(pod)
	if change != nil {
		change(review.Request)
	}
	w := r.send(http.MethodPost, "application/json", string(mustJSON(t, review)))
	if w.Code != http.StatusOK {
		t.Fatalf("HTTP %d: %s", w.Code, w.Body)
	}
	answer := &admissionv1.AdmissionReview{}
	if err := json.Unmarshal(w.Body.Bytes(), answer); err != nil {
		t.Fatal(err)
	}
	if answer.Kind != "AdmissionReview" || answer.APIVersion != "admission.k8s.io/v1" || answer.Response == nil || answer.Response.UID != "u1" {
		t.Fatalf("not an answer to the request: %s", w.Body)
	}
	return answer.Response
}

func (r *rig) send(method, contentType, body string) *httptest.ResponseRecorder {
	return r.sendTo(Path, method, contentType, body)
}

func (r *rig) sendTo(path, method, contentType, body string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Content-Type", contentType)
	r.ServeHTTP(w, request)
	return w
}

// The path says who captures, whatever the replica's configuration says.
func TestPathSaysWhoCaptures(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		cfg := testMesh()
		cfg.CNI.Enabled = enabled
		r := &rig{Handler: NewHandler(Options{
			Config: cfg, Version: testVersion, Log: logr.Discard(),
			NamespaceLabels: func(context.Context, string) (map[string]string, error) {
				return map[string]string{config.LabelInjection: config.InjectionEnabled}, nil
			},
		})}
		for path, byCNI := range map[string]bool{Path: false, PathCNI: true} {
			w := r.sendTo(path, http.MethodPost, "application/json", `{
				"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u1", "namespace": "shop", "operation": "CREATE",
				"resource": {"version": "v1", "resource": "pods"}, "object": `+plainPod+`}}`)
			var answer admissionv1.AdmissionReview
			if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
				t.Fatalf("%s: %d %s", path, w.Code, w.Body)
			}
			patch, err := jsonpatch.DecodePatch(answer.Response.Patch)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := patch.Apply([]byte(plainPod))
			if err != nil {
				t.Fatal(err)
			}
			var pod corev1.Pod
			if err := json.Unmarshal(raw, &pod); err != nil {
				t.Fatal(err)
			}
			if got := sidecar.CapturedByCNI(&pod); !sidecar.Has(&pod) || got != byCNI {
				t.Errorf("%s with cni.enabled %t: captured by the plugin: %t", path, enabled, got)
			}
		}
		if w := r.sendTo("/other", http.MethodPost, "application/json", "{}"); w.Code != http.StatusNotFound {
			t.Errorf("another path: %d", w.Code)
		}
	}
}

const plainPod = `{"metadata": {"generateName": "web-"}, "spec": {"containers": [{"name": "web", "image": "w"}]}}`

func TestHandlerInjects(t *testing.T) {
	r := newRig(t)
	response := r.post(t, plainPod, nil)
	if !response.Allowed || response.PatchType == nil || *response.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("response = %+v", response)
	}
	decoded, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := decoded.Apply([]byte(plainPod))
	if err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(raw, pod); err != nil {
		t.Fatal(err)
	}
	if len(pod.Spec.InitContainers) != 2 || pod.Annotations[config.AnnotationInjected] != testVersion || pod.Namespace != "" {
		t.Errorf("patched pod: %s", raw)
	}
	if got := r.count(t, "injected", ""); got != 1 {
		t.Errorf("counted %v injections", got)
	}
	again := r.post(t, string(raw), nil)
	if !again.Allowed || again.Patch != nil || r.count(t, "skipped", "already-injected") != 1 || len(r.events) != 0 {
		t.Errorf("reinvocation: %+v, %d events", again, len(r.events))
	}
}

// A copy of a pod of the mesh: kubectl debug leaves labels and annotations out.
func TestHandlerTakesCopies(t *testing.T) {
	const asked = `{"metadata": {"name": "web", "labels": {"mizzen.dev/injection": "enabled"}}, "spec": {"containers": [{"name": "web", "image": "w"}]}}`
	for name, c := range map[string]struct {
		namespace, metadata, spec string
		result, reason, warning   string
		sidecar                   bool
	}{
		"where pods are injected": {"shop", `{"name": "copy"}`, "", "", "", "", true},
		"where they are not":      {"other", `{"name": "copy"}`, "", "", "", "", true},
		"with the label disabled": {
			"shop", `{"name": "copy", "labels": {"mizzen.dev/injection": "disabled"}}`, "", "removed", "disabled-on-pod",
			"mizzen: pod shop/copy: removed the sidecar that the pod was copied with: the pod's label mizzen.dev/injection=disabled turns injection off", false,
		},
		"on the node's network": {
			"other", `{"name": "copy"}`, `"hostNetwork": true, `, "removed", "host-network",
			"mizzen: pod other/copy: removed the sidecar that the pod was copied with: hostNetwork: the capture rules would apply to the whole node", false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			in := func(req *admissionv1.AdmissionRequest) { req.Namespace = c.namespace }
			injected := apply(t, asked, r.post(t, asked, in))
			var pod map[string]json.RawMessage
			if err := json.Unmarshal([]byte(injected), &pod); err != nil {
				t.Fatal(err)
			}
			pod["metadata"] = json.RawMessage(c.metadata)
			pod["spec"] = json.RawMessage(strings.Replace(string(pod["spec"]), "{", "{"+c.spec, 1))
			copied := string(mustJSON(t, pod))
			response := r.post(t, copied, in)
			out := &corev1.Pod{}
			if err := json.Unmarshal([]byte(apply(t, copied, response)), out); err != nil {
				t.Fatal(err)
			}
			_, carries := sidecar.Find(&out.Spec)
			if !response.Allowed || carries != c.sidecar || len(out.Spec.Containers) != 1 {
				t.Errorf("allowed %v, a sidecar %v, %d containers", response.Allowed, carries, len(out.Spec.Containers))
			}
			if got := strings.Join(response.Warnings, "\n"); got != c.warning {
				t.Errorf("warnings %q, want %q", got, c.warning)
			}
			if c.sidecar && out.Annotations[config.AnnotationInjected] == "" {
				t.Error("the annotation is not back")
			}
			if !c.sidecar && r.count(t, c.result, c.reason) != 1 {
				t.Errorf("mizzen_injection_total{result=%q,reason=%q} is not 1", c.result, c.reason)
			}
		})
	}
}

// apply gives the pod as the API server goes on with it.
func apply(t *testing.T, pod string, response *admissionv1.AdmissionResponse) string {
	t.Helper()
	if response.Patch == nil {
		return pod
	}
	decoded, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		t.Fatal(err)
	}
	out, err := decoded.Apply([]byte(pod))
	if err != nil {
		t.Fatalf("%v: %s", err, response.Patch)
	}
	return string(out)
}

func TestHandlerWithoutPatch(t *testing.T) {
	const hostNetwork = `{"metadata": {"name": "agent", "labels": {"mizzen.dev/injection": "enabled"}}, "spec": {"hostNetwork": true}}`
	const owned = `{"metadata": {"generateName": "agent-", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "agent", "uid": "1", "controller": true}]}, "spec": {"hostNetwork": true}}`
	const gateway = `{"metadata": {"generateName": "edge-mizzen-", "labels": {"mizzen.dev/injection": "disabled"}, "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "edge-mizzen-5d8f", "uid": "1", "controller": true}]},
		"spec": {"containers": [{"name": "mizzen-proxy", "args": ["run", "--gateway"]}]}}`
	for name, c := range map[string]struct {
		pod     string
		change  func(*admissionv1.AdmissionRequest)
		allowed bool
		code    int32
		message string
		result  string
		warning string
		event   string
	}{
		"rejected": {
			pod:  `{"metadata": {"name": "foo", "annotations": {"mizzen.dev/proxy-concurrency": "x"}}}`,
			code: 403, result: "rejected",
			message: `mizzen: pod shop/foo: annotation mizzen.dev/proxy-concurrency: "x": want a whole number from 0 to 64`,
		},
		"rejected, without a name": {
			pod:  `{"metadata": {"generateName": "foo-", "labels": {"mizzen.dev/injection": "yes"}}}`,
			code: 403, result: "rejected",
			message: `mizzen: pod shop/foo-*: label mizzen.dev/injection: "yes": want "enabled" or "disabled"`,
		},
		"skipped, asked for by the pod": {
			pod: hostNetwork, allowed: true, code: 200, result: "skipped", message: "host-network",
			warning: "mizzen: pod shop/agent gets no sidecar: hostNetwork: the capture rules would apply to the whole node",
			event:   "Normal SidecarSkipped Injecting pod shop/agent gets no sidecar: hostNetwork: the capture rules would apply to the whole node (host-network) {kind=Pod,apiVersion=v1}",
		},
		"skipped, event on the owner": {
			pod: owned, allowed: true, code: 200, result: "skipped", message: "host-network",
			event: "Normal SidecarSkipped Injecting pod shop/agent-* gets no sidecar: hostNetwork: the capture rules would apply to the whole node (host-network) {kind=DaemonSet,apiVersion=apps/v1}",
		},
		"skipped, event on the namespace": {
			pod: plainPod, change: func(r *admissionv1.AdmissionRequest) { r.Namespace = "other" },
			allowed: true, code: 200, result: "skipped", message: "namespace-not-enabled",
			event: "Normal SidecarSkipped Injecting pod other/web-* gets no sidecar: neither the namespace nor the pod has the label mizzen.dev/injection=enabled (namespace-not-enabled) {kind=Namespace,apiVersion=v1}",
		},
		"dry run: no event": {
			pod: owned, change: func(r *admissionv1.AdmissionRequest) { r.DryRun = new(true) },
			allowed: true, code: 200, result: "skipped", message: "host-network",
		},
		"not a pod": {
			pod: `{}`, change: func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "nodes" },
			allowed: true, code: 200, result: "skipped", message: "not-a-pod",
		},
		"an update": {
			pod: plainPod, change: func(r *admissionv1.AdmissionRequest) {
				r.Operation, r.OldObject = admissionv1.Update, r.Object
			},
			allowed: true, code: 200, result: "skipped", message: "not-a-creation",
		},
		"an ephemeral container": {
			pod: plainPod, change: func(r *admissionv1.AdmissionRequest) { r.SubResource = "ephemeralcontainers" },
			allowed: true, code: 200, result: "skipped", message: "not-a-creation",
		},
		"object of another shape": {
			pod:  `{"spec": []}`,
			code: 400, result: "error", message: "mizzen: decode the pod: ",
		},
		"no object": {
			change: func(r *admissionv1.AdmissionRequest) { r.Object.Raw = nil },
			code:   400, result: "error", message: "mizzen: decode the pod: ",
		},
		"namespace unreadable": {
			pod: plainPod, change: func(r *admissionv1.AdmissionRequest) { r.Namespace = "unreadable" },
			code: 500, result: "error", message: "mizzen: pod unreadable/web-*: read the labels of namespace unreadable: no cache yet",
		},
		"of a gateway": {
			pod:     gateway,
			allowed: true, code: 200, result: "skipped", message: "disabled-on-pod",
			event: "Normal SidecarSkipped Injecting pod shop/edge-mizzen-* gets no sidecar: the pod's label mizzen.dev/injection=disabled turns injection off (disabled-on-pod) {kind=ReplicaSet,apiVersion=apps/v1}",
		},
		"a panic is an answer": {
			pod: plainPod, change: func(r *admissionv1.AdmissionRequest) { r.Namespace = "panics" },
			code: 500, message: "panic: namespace cache [recovered]",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			if c.pod == "" {
				c.pod = "{}"
			}
			response := r.post(t, c.pod, c.change)
			if response.Allowed != c.allowed || response.Result.Code != c.code || response.Patch != nil {
				t.Errorf("allowed %v, code %d, patch %s", response.Allowed, response.Result.Code, response.Patch)
			}
			if !strings.HasPrefix(response.Result.Message, c.message) {
				t.Errorf("message %q, want %q", response.Result.Message, c.message)
			}
			if got := strings.Join(response.Warnings, "\n"); got != c.warning {
				t.Errorf("warnings %q, want %q", got, c.warning)
			}
			checkEvent(t, r.events, c.event)
			reason := ""
			if c.result == "skipped" {
				reason = c.message
			}
			if c.result != "" && r.count(t, c.result, reason) != 1 {
				t.Errorf("mizzen_injection_total{result=%q,reason=%q} is not 1", c.result, reason)
			}
		})
	}
}

func checkEvent(t *testing.T, events chan string, want string) {
	t.Helper()
	got := ""
	select {
	case got = <-events:
	default:
	}
	if got != want {
		t.Errorf("event %q, want %q", got, want)
	}
}

func TestHTTP(t *testing.T) {
	const json = "application/json"
	for name, c := range map[string]struct {
		method, contentType, body string
		status                    int
		message                   string
	}{
		"get":                 {"GET", json, "", 405, "method GET: want POST"},
		"put":                 {"PUT", json, "{}", 405, "method PUT: want POST"},
		"no content type":     {"POST", "", "{}", 415, `content type "": want application/json`},
		"other content type":  {"POST", "text/plain", "{}", 415, `content type "text/plain": want application/json`},
		"charset is fine":     {"POST", json + "; charset=utf-8", "{}", 400, "body: apiVersion"},
		"empty body":          {"POST", json, "", 400, "empty body: want an AdmissionReview"},
		"no JSON":             {"POST", json, "hello", 400, "body: want an AdmissionReview: invalid character"},
		"cut off":             {"POST", json, `{"kind": "Adm`, 400, "body: want an AdmissionReview: unexpected end"},
		"nested too deep":     {"POST", json, strings.Repeat("[", 100_000), 400, "body: want an AdmissionReview"},
		"a list":              {"POST", json, "[]", 400, "body: want an AdmissionReview"},
		"null":                {"POST", json, "null", 400, `body: apiVersion "", kind ""`},
		"another kind":        {"POST", json, `{"apiVersion": "v1", "kind": "Pod"}`, 400, `body: apiVersion "v1", kind "Pod": want "admission.k8s.io/v1", "AdmissionReview"`},
		"an old version":      {"POST", json, `{"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"}`, 400, `body: apiVersion "admission.k8s.io/v1beta1"`},
		"no request":          {"POST", json, `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}`, 400, "body: the AdmissionReview has no request with a uid"},
		"request without uid": {"POST", json, `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {}}`, 400, "body: the AdmissionReview has no request with a uid"},
		"huge":                {"POST", json, strings.Repeat(" ", maxBody+1), 413, "body: want at most 7340032 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRig(t).send(c.method, c.contentType, c.body)
			if w.Code != c.status || !strings.HasPrefix(w.Body.String(), c.message) {
				t.Errorf("HTTP %d: %s\nwant %d: %s", w.Code, w.Body, c.status, c.message)
			}
			if c.status == 405 && w.Header().Get("Allow") != "POST" {
				t.Errorf("Allow: %q", w.Header().Get("Allow"))
			}
		})
	}
}

func FuzzHandler(f *testing.F) {
	const head = `{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "u", "namespace": "shop", "operation": "CREATE", "resource": {"version": "v1", "resource": "pods"}, "object": `
	f.Add(head + plainPod + "}}")
	f.Add(head + `{"metadata": {"annotations": {"mizzen.dev/injected": ""}}, "spec": {"initContainers": [{"name": "mizzen-capture", "args": ["capture"]},
		{"name": "mizzen-proxy", "args": ["run"], "restartPolicy": "Always"}], "containers": [{"name": "a", "livenessProbe": {"grpc": {"port": 1}}}]}}}}`)
	f.Add(`{"request": null}`)
	r := newRig(f)
	f.Fuzz(func(t *testing.T, body string) {
		w := r.send(http.MethodPost, "application/json", body)
		if w.Code != http.StatusOK && w.Code != http.StatusBadRequest {
			t.Errorf("HTTP %d: %s", w.Code, w.Body)
		}
		if strings.Contains(w.Body.String(), "[recovered]") && !strings.Contains(body, "panics") {
			t.Errorf("panic: %s", w.Body)
		}
		for len(r.events) > 0 { // the recorder blocks when it is full
			<-r.events
		}
	})
}
