package webhook

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	sjson "sigs.k8s.io/json"

	"github.com/mizzen-mesh/mizzen/config"
)

// Paths are where the API server expects the handler of NewHandler. The path says who captures the traffic of pods: a container
// of each, or the CNI plugin of its node. So that follows the webhook's configuration, which is replaced at once, and no
// replica from before a change injects pods for a plugin that is gone.
const (
	Path    = "/inject"
	PathCNI = "/inject/cni"
)

// Options of the admission handler.
type Options struct {
	// Config of the mesh, with defaults set and valid for injection (Mesh.ValidateForInjection). In place of CNI.Enabled the
	// request's path counts.
	Config *config.Mesh
	// Version is written into the annotation of each injected pod.
	Version string
	// ControlPlaneNamespace holds the control plane, whose own pods get no sidecar.
	ControlPlaneNamespace string
	// NamespaceLabels gives the labels of a namespace, from a cache. It is called only where the pod's
	// own label does not decide. An error refuses the pod. Nil is a namespace without labels.
	NamespaceLabels func(ctx context.Context, name string) (map[string]string, error)
	// Namespace gives what the namespace of a pod that is injected says of it, from a cache. An error refuses the pod.
	// Nil is a namespace that says nothing.
	Namespace func(ctx context.Context, name string) (Namespace, error)
	// TrustBundle gives the mesh's roots, PEM, for each pod. An error refuses the pod: without roots its
	// sidecar could not start. Nil is a mesh without identity.
	TrustBundle func() ([]byte, error)
	// Recorder gets an event for each pod that is skipped, but not for dry runs. Nil is no events.
	Recorder events.EventRecorder
	// Registerer gets the handler's metrics. Nil leaves them unregistered.
	Registerer prometheus.Registerer
	Log        logr.Logger
}

// Results of an admission request, as metric label.
const (
	resultInjected = "injected"
	resultRestored = "restored"
	resultSkipped  = "skipped"
	resultRemoved  = "removed"
	resultRejected = "rejected"
	resultError    = "error"
)

// injector answers admission requests, which run in parallel.
type injector struct {
	Options
	total *prometheus.CounterVec
	// told bounds the events.
	told *rate.Limiter
}

// NewHandler gives the HTTP handler for Path and PathCNI. A body that is no AdmissionReview gets a 4xx; everything
// else is answered with an AdmissionReview. Panics if the metrics are registered twice.
func NewHandler(o Options) http.Handler {
	h := &injector{Options: o, told: newEventLimit(), total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mizzen_injection_total",
		Help: "Admission requests by result (injected, restored, skipped, removed, rejected, error) and, where skipped or removed, the reason.",
	}, []string{"result", "reason"})}
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mizzen_webhook_refused_requests_total",
		Help: "Requests refused before admission, by reason: too many at a time (busy), a body that is too large (size), too slow (slow) or no AdmissionReview (body), a wrong method (method) or content type (content-type).",
	}, []string{"reason"})
	duration := prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "mizzen_webhook_admission_duration_seconds",
		Help: "Time from the arrival of an admission request to its answer, with the wait for its turn. Requests refused before admission are left out.",
		// An injection takes a few milliseconds; the API server gives up after 10 s (timeoutSeconds in the chart).
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	})
	if o.Registerer != nil {
		o.Registerer.MustRegister(h.total, refused, duration)
	}
	captures := func(byCNI bool) *admission.Webhook {
		of, cfg := *h, *o.Config
		cfg.CNI.Enabled, of.Config = byCNI, &cfg
		return &admission.Webhook{Handler: &of} // which recovers panics
	}
	return &endpoint{
		webhooks: map[string]*admission.Webhook{Path: captures(false), PathCNI: captures(true)}, log: o.Log, turns: newTurns(), bodyTime: bodyTime, refused: refused, duration: duration, logged: newLogLimit(),
	}
}

// Handle implements admission.Handler.
func (h *injector) Handle(ctx context.Context, req admission.Request) admission.Response {
	// What is not a pod being created comes from a webhook configuration that asks for too much. To
	// refuse it would stop parts of the cluster that have nothing to do with the mesh.
	if req.Resource != (metav1.GroupVersionResource{Version: "v1", Resource: "pods"}) {
		return h.skipped(NotAPod)
	}
	if req.SubResource != "" || (req.Operation != admissionv1.Create && req.Operation != admissionv1.Update) {
		return h.skipped(NotACreation)
	}
	pod, err := decode(req.Object.Raw)
	if err != nil {
		return h.errored(http.StatusBadRequest, fmt.Errorf("mizzen: decode the pod: %w", err))
	}
	pod.Namespace = req.Namespace // a pod from a template may leave it out
	if req.Operation == admissionv1.Update {
		return h.restore(req, pod)
	}

	decision, err := h.decide(ctx, pod)
	if err != nil {
		return h.errored(http.StatusInternalServerError, fmt.Errorf("mizzen: pod %s: %w", displayName(pod), err))
	}
	if decision.Refuse != "" {
		return h.rejected(pod, decision.Refuse)
	}
	if decision.Remove(pod) {
		return h.remove(req, pod, decision.Reason)
	}
	if !decision.Inject {
		h.event(req, pod, decision.Reason)
		return h.skipped(decision.Reason).WithWarnings(skipWarnings(pod, decision.Reason)...)
	}
	return h.inject(ctx, req, pod)
}

// restore answers an update of a pod. It lets all pass that it does not know, for Kubernetes to judge.
func (h *injector) restore(req admission.Request, update *corev1.Pod) admission.Response {
	running, err := decode(req.OldObject.Raw)
	if err != nil {
		return h.errored(http.StatusBadRequest, fmt.Errorf("mizzen: decode the running pod: %w", err))
	}
	operations, err := changes(req.Object.Raw, update, Restore(running, update))
	if err != nil {
		return h.errored(http.StatusInternalServerError, fmt.Errorf("mizzen: pod %s: %w", displayName(update), err))
	}
	if len(operations) == 0 {
		return h.skipped(NotACreation)
	}
	h.total.WithLabelValues(resultRestored, "").Inc()
	return admission.Patched("", operations...)
}

func decode(raw []byte) (*corev1.Pod, error) {
	pod := &corev1.Pod{}
	return pod, sjson.UnmarshalCaseSensitivePreserveInts(raw, pod)
}

// changes are the operations that bring the difference of before and after into raw.
func changes(raw []byte, before, after *corev1.Pod) ([]jsonpatch.Operation, error) {
	merged, err := Merge(raw, before, after)
	if err != nil {
		return nil, err
	}
	return patch(raw, merged)
}

func (h *injector) inject(ctx context.Context, req admission.Request, pod *corev1.Pod) admission.Response {
	var bundle []byte
	if h.TrustBundle != nil {
		var err error
		if bundle, err = h.TrustBundle(); err == nil {
			err = CheckTrustBundle(bundle)
		}
		if err != nil {
			return h.errored(http.StatusServiceUnavailable, fmt.Errorf("mizzen: pod %s: the control plane has no certificate authority: %w", displayName(pod), err))
		}
	}
	var ns Namespace
	if h.Namespace != nil {
		var err error
		if ns, err = h.Namespace(ctx, pod.Namespace); err != nil {
			return h.errored(http.StatusInternalServerError, fmt.Errorf("mizzen: pod %s: read what its namespace says of it: %w", displayName(pod), err))
		}
	}
	injected, report, err := Inject(pod, ns, h.Config, h.Version, bundle, NewProbeKey())
	if err != nil {
		return h.rejected(pod, err.Error())
	}
	if !report.Changed {
		return h.skipped(AlreadyInjected) // no event: the API server's reinvocation is no news
	}
	operations, err := changes(req.Object.Raw, pod, injected)
	if err != nil {
		return h.errored(http.StatusInternalServerError, fmt.Errorf("mizzen: pod %s: %w", displayName(pod), err))
	}
	h.total.WithLabelValues(resultInjected, "").Inc()
	h.Log.V(1).Info("pod injected", "pod", displayName(pod), "madeAnew", report.MadeAnew, "forwarded", report.Forwarded, "drained", report.Drained)
	h.namespaceEvent(req, pod, report.Namespace)
	warnings := make([]string, len(report.Warnings))
	for i, w := range report.Warnings {
		warnings[i] = "mizzen: " + w
	}
	return admission.Patched("", operations...).WithWarnings(warnings...)
}

// remove takes the sidecar out of a copy that is to have none.
func (h *injector) remove(req admission.Request, pod *corev1.Pod, reason Reason) admission.Response {
	without, err := Remove(pod)
	if err != nil {
		return h.rejected(pod, err.Error())
	}
	operations, err := changes(req.Object.Raw, pod, without)
	if err != nil {
		return h.errored(http.StatusInternalServerError, fmt.Errorf("mizzen: pod %s: %w", displayName(pod), err))
	}
	h.total.WithLabelValues(resultRemoved, string(reason)).Inc()
	h.Log.V(1).Info("sidecar removed", "pod", displayName(pod), "reason", reason)
	return admission.Patched(string(reason), operations...).WithWarnings(fmt.Sprintf(
		"mizzen: pod %s: the sidecar that it was copied with is taken out: %s", displayName(pod), reason.Explain()))
}

func (h *injector) decide(ctx context.Context, pod *corev1.Pod) (Decision, error) {
	var labels map[string]string
	if _, ok := pod.Labels[config.LabelInjection]; !ok && h.NamespaceLabels != nil {
		var err error
		if labels, err = h.NamespaceLabels(ctx, pod.Namespace); err != nil {
			return Decision{}, fmt.Errorf("read the labels of namespace %s: %w", pod.Namespace, err)
		}
	}
	return Decide(labels, pod, h.ControlPlaneNamespace), nil
}

func (h *injector) rejected(pod *corev1.Pod, why string) admission.Response {
	h.total.WithLabelValues(resultRejected, "").Inc()
	h.Log.Info("pod rejected", "pod", displayName(pod), "why", why)
	return admission.Denied(fmt.Sprintf("mizzen: pod %s: %s", displayName(pod), why))
}

func (h *injector) skipped(reason Reason) admission.Response {
	h.total.WithLabelValues(resultSkipped, string(reason)).Inc()
	return admission.Allowed(string(reason))
}

func (h *injector) errored(code int32, err error) admission.Response {
	h.total.WithLabelValues(resultError, "").Inc()
	h.Log.Error(err, "admission failed")
	return admission.Errored(code, err)
}

// skipWarnings tells those who asked for a sidecar on this very pod that it gets none.
func skipWarnings(pod *corev1.Pod, reason Reason) []string {
	if pod.Labels[config.LabelInjection] != config.InjectionEnabled {
		return nil
	}
	return []string{fmt.Sprintf("mizzen: pod %s gets no sidecar: %s", displayName(pod), reason.Explain())}
}

// event reports a skip on the object that people look at: the owner, as the pod has no name or UID yet.
func (h *injector) event(req admission.Request, pod *corev1.Pod, reason Reason) {
	if h.Recorder == nil || (req.DryRun != nil && *req.DryRun) || !h.told.Allow() {
		return
	}
	h.Recorder.Eventf(regarding(pod), nil, corev1.EventTypeNormal, "SidecarSkipped", "Injecting",
		"pod %s gets no sidecar: %s (%s)", displayName(pod), reason.Explain(), string(reason))
}

// maxNote is the longest note of an event.
const maxNote = 1024

// namespaceEvent tells what the namespace's rules have changed. Controllers make most pods, and show nobody the warnings.
func (h *injector) namespaceEvent(req admission.Request, pod *corev1.Pod, warnings []string) {
	if len(warnings) == 0 || metav1.GetControllerOf(pod) == nil || h.Recorder == nil || (req.DryRun != nil && *req.DryRun) || !h.told.Allow() {
		return
	}
	note := fmt.Sprintf("pod %s: %s", displayName(pod), strings.Join(warnings, "; "))
	h.Recorder.Eventf(regarding(pod), nil, corev1.EventTypeWarning, "SidecarFitted", "Injecting", "%.*s", maxNote, note)
}

func regarding(pod *corev1.Pod) *corev1.ObjectReference {
	if owner := metav1.GetControllerOf(pod); owner != nil {
		return &corev1.ObjectReference{APIVersion: owner.APIVersion, Kind: owner.Kind, Namespace: pod.Namespace, Name: owner.Name, UID: owner.UID}
	}
	if pod.Name != "" {
		return &corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name}
	}
	// With the namespace set the event lies in that namespace instead of "default", where nobody looks.
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Namespace: pod.Namespace, Name: pod.Namespace}
}

// displayName is "namespace/name", or "namespace/prefix*" while the API server has not chosen a name.
func displayName(pod *corev1.Pod) string {
	if pod.Name == "" && pod.GenerateName != "" {
		return pod.Namespace + "/" + pod.GenerateName + "*"
	}
	return pod.Namespace + "/" + pod.Name
}
