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
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Paths at which the API server calls the handler of NewHandler. The path says whether an init container or the node's
// CNI plugin captures the pods' traffic. The webhook configuration thus decides it for all replicas at once, and an old
// replica never injects pods for a plugin that has been removed.
const (
	Path    = "/inject"
	PathCNI = "/inject/cni"
)

// Options of the admission handler.
type Options struct {
	// Config of the mesh, with defaults, valid for injection (Mesh.ValidateForInjection). The request's path overrides
	// CNI.Enabled.
	Config *config.Mesh
	// Version is written into the annotation of each injected pod.
	Version string
	// ControlPlaneNamespace holds the control plane, whose own pods get no sidecar.
	ControlPlaneNamespace string
	// NamespaceLabels returns the labels of a namespace, from a cache. It is called only if the pod has no label of its
	// own. An error refuses the pod. If the function is nil, namespaces have no labels.
	NamespaceLabels func(ctx context.Context, name string) (map[string]string, error)
	// Namespace returns the settings and rules of an injected pod's namespace, from a cache. An error refuses the pod.
	// If the function is nil, namespaces have none.
	Namespace func(ctx context.Context, name string) (Namespace, error)
	// Revision returns the revision of the control plane that injects a namespace's pods; empty if it is this one. An error
	// refuses a pod that another revision has injected. If the function is nil, there are no others.
	Revision func(ctx context.Context, namespace string) (string, error)
	// TrustBundle returns the mesh's roots in PEM for each pod. An error refuses the pod, because without roots its
	// sidecar could not start. The function is nil in a mesh without identities.
	TrustBundle func() ([]byte, error)
	// Recorder gets an event for each skipped pod, but not for dry runs. Nil means no events.
	Recorder events.EventRecorder
	// Registerer gets the handler's metrics. Nil leaves them unregistered.
	Registerer prometheus.Registerer
	Log        logr.Logger
}

// Results of an admission request, as metric labels.
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
	// told limits the rate of events.
	told *rate.Limiter
}

// NewHandler returns the HTTP handler for Path and PathCNI. It answers a body that is not an AdmissionReview with 4xx,
// and everything else with an AdmissionReview. It panics if the metrics are registered twice.
func NewHandler(o Options) http.Handler {
	h := &injector{Options: o, told: newEventLimit(), total: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mizzen_injection_total",
		Help: "Admission requests by result (injected, restored, skipped, removed, rejected, error), with the reason if skipped or removed.",
	}, []string{"result", "reason"})}
	h.total.WithLabelValues(resultError, "") // so that the first one is an increase
	refused := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "mizzen_webhook_refused_requests_total",
		Help: "Requests refused before admission, by reason: too many at a time (busy), a body that is too large (size), too slow (slow) or not an AdmissionReview (body), a wrong method (method) or content type (content-type).",
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
	// Other objects and operations come from a webhook configuration with too broad rules. Refusing them would stop
	// parts of the cluster that do not concern the mesh.
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

	left, err := h.leave(ctx, pod)
	if err != nil {
		return h.errored(http.StatusInternalServerError, fmt.Errorf("mizzen: pod %s: %w", displayName(pod), err))
	}
	if left {
		return h.skipped(OtherRevision)
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

// restore answers an update of a pod. It leaves everything that it does not recognize to Kubernetes.
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

// changes returns the operations that apply the difference of before and after to raw.
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
			return h.errored(http.StatusInternalServerError, fmt.Errorf("mizzen: pod %s: read the settings of its namespace: %w", displayName(pod), err))
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

// remove removes the sidecar from a copied pod.
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
		"mizzen: pod %s: removed the sidecar that the pod was copied with: %s", displayName(pod), reason.Explain()))
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

// leave reports whether the pod has the sidecar of another revision, which its namespace wants. The API server asks both control
// planes. So this one injects what the other one has not injected: no pod stays without a sidecar, whatever the other one does, and
// in whatever order they are asked. The other one replaces the sidecar with its own.
func (h *injector) leave(ctx context.Context, pod *corev1.Pod) (bool, error) {
	has := sidecar.Revision(&pod.Spec)
	if has == h.Config.Revision || h.Revision == nil {
		return false, nil
	}
	want, err := h.Revision(ctx, pod.Namespace)
	if err != nil {
		return false, fmt.Errorf("read the revision of namespace %s: %w", pod.Namespace, err)
	}
	return has == want, nil
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

// skipWarnings warns the user of a pod whose own label asks for a sidecar that the pod gets none.
func skipWarnings(pod *corev1.Pod, reason Reason) []string {
	if pod.Labels[config.LabelInjection] != config.InjectionEnabled {
		return nil
	}
	return []string{fmt.Sprintf("mizzen: pod %s gets no sidecar: %s", displayName(pod), reason.Explain())}
}

// event reports a skip on the pod's owner, because the pod has no name or UID yet.
func (h *injector) event(req admission.Request, pod *corev1.Pod, reason Reason) {
	if h.Recorder == nil || (req.DryRun != nil && *req.DryRun) || !h.told.Allow() {
		return
	}
	h.Recorder.Eventf(regarding(pod), nil, corev1.EventTypeNormal, "SidecarSkipped", "Injecting",
		"pod %s gets no sidecar: %s (%s)", displayName(pod), reason.Explain(), string(reason))
}

// maxNote is the longest note of an event.
const maxNote = 1024

// namespaceEvent reports changes because of the namespace's rules. Controllers make most pods, and nobody sees their
// warnings.
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
	// With the namespace set, the event is in that namespace and not in "default", where nobody looks.
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Namespace: pod.Namespace, Name: pod.Namespace}
}

// displayName is "namespace/name", or "namespace/prefix*" while the API server has not chosen a name.
func displayName(pod *corev1.Pod) string {
	if pod.Name == "" && pod.GenerateName != "" {
		return pod.Namespace + "/" + pod.GenerateName + "*"
	}
	return pod.Namespace + "/" + pod.Name
}
