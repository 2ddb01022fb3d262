package webhook

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

// Restore returns a copy of a pod's update. If the update has a probe or hook as its owner first wrote it, the copy has
// the forwarded one of the running pod. Otherwise nobody could apply an unchanged manifest again, because Kubernetes
// refuses changes of probes. A probe that the owner has changed stays, and Kubernetes refuses it.
func Restore(running, update *corev1.Pod) *corev1.Pod {
	out := update.DeepCopy()
	own, errs := findOwn(running.Spec.DeepCopy())
	if own.proxy == nil || len(errs) > 0 {
		return out
	}
	before := map[string]*corev1.Container{}
	for _, app := range appContainers(&running.Spec) {
		before[app.Name] = app.Container
	}
	for _, app := range appContainers(&out.Spec) {
		if old := before[app.Name]; old != nil {
			restoration{own.handlers, app}.all(old)
		}
	}
	return out
}

// restoration restores one container.
type restoration struct {
	known actions
	app   appContainer
}

func (r restoration) all(old *corev1.Container) {
	r.probe(appprobe.Liveness, old.LivenessProbe, r.app.LivenessProbe)
	r.probe(appprobe.Readiness, old.ReadinessProbe, r.app.ReadinessProbe)
	r.probe(appprobe.Startup, old.StartupProbe, r.app.StartupProbe)
	if old.Lifecycle != nil && r.app.Lifecycle != nil {
		r.hook(appprobe.PostStart, old.Lifecycle.PostStart, r.app.Lifecycle.PostStart)
		r.hook(appprobe.PreStop, old.Lifecycle.PreStop, r.app.Lifecycle.PreStop)
	}
}

func (r restoration) probe(kind appprobe.Kind, old, now *corev1.Probe) {
	if old == nil || now == nil {
		return
	}
	h := action{HTTPGet: now.HTTPGet, TCPSocket: now.TCPSocket, GRPC: now.GRPC}
	if now.Exec == nil && r.same(kind, old.HTTPGet, h) {
		now.ProbeHandler = *old.ProbeHandler.DeepCopy()
	}
}

func (r restoration) hook(kind appprobe.Kind, old, now *corev1.LifecycleHandler) {
	if old == nil || now == nil || count(now.Exec != nil, now.TCPSocket != nil, now.Sleep != nil) > 0 {
		return
	}
	if r.same(kind, old.HTTPGet, action{HTTPGet: now.HTTPGet}) {
		now.HTTPGet = old.HTTPGet.DeepCopy()
	}
}

// same reports whether the update's handler equals the handler that the agent has on record.
//
// A client that merges changes, such as kubectl apply, leaves fields that it never wrote: our header, and our whole
// httpGet beside a gRPC probe.
func (r restoration) same(kind appprobe.Kind, old *corev1.HTTPGetAction, now action) bool {
	agentPath := appprobe.Path(r.app.Name, kind)
	known, ok := r.known[agentPath]
	if !ok || !isAgentGet(old, agentPath) {
		return false
	}
	if now.HTTPGet != nil && isAgentGet(now.HTTPGet, agentPath) && (now.GRPC != nil || now.TCPSocket != nil) {
		now.HTTPGet = nil
	}
	if count(now.HTTPGet != nil, now.TCPSocket != nil, now.GRPC != nil) != 1 || hostOf(now) != "" {
		return false
	}
	now, errs := resolve(r.app, now, field.NewPath("spec"))
	if len(errs) > 0 {
		return false
	}
	if get := now.HTTPGet; get != nil {
		get.HTTPHeaders = withoutKey(get.HTTPHeaders)
	}
	known.TimeoutSeconds = 0
	return equality.Semantic.DeepEqual(withService(known), withService(now))
}

func withoutKey(headers []corev1.HTTPHeader) []corev1.HTTPHeader {
	var out []corev1.HTTPHeader
	for _, h := range headers {
		if h.Name != appprobe.KeyHeader {
			out = append(out, h)
		}
	}
	return out
}

// withService adds the default of a gRPC probe's service, which older records lack.
func withService(h action) action {
	if h.GRPC != nil && h.GRPC.Service == nil {
		h.GRPC = h.GRPC.DeepCopy()
		h.GRPC.Service = new("")
	}
	return h
}
