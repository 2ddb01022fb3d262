package webhook

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Remove returns a copy of the pod without its sidecar, for a copied pod that must not have one. Probes and hooks go to
// the application again. preStop sleeps stay, because ours look like the user's and do no harm. The error names changes
// that cannot be undone.
func Remove(pod *corev1.Pod) (*corev1.Pod, error) {
	out := pod.DeepCopy()
	own, errs := findOwn(&out.Spec)
	back := restorer{known: own.handlers}
	for _, app := range appContainers(&out.Spec) {
		back.container(app)
	}
	if err := append(errs, back.errs...).ToAggregate(); err != nil {
		return nil, join(err)
	}
	removeOwn(&out.Spec)
	delete(out.Annotations, config.AnnotationInjected)
	return out, nil
}

// removeOwn removes our containers and volumes, and the containers' share of the pod's own resources.
func removeOwn(spec *corev1.PodSpec) {
	if found, ok := sidecar.Find(spec); ok {
		takePodResources(spec, spec.InitContainers[found.Proxy].Resources)
		kept := make([]corev1.Container, 0, len(spec.InitContainers))
		for i, c := range spec.InitContainers {
			if i != found.Capture && i != found.Proxy {
				kept = append(kept, c)
			}
		}
		spec.InitContainers = kept
	}
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v corev1.Volume) bool {
		return v.Name == config.ProxyVolume || v.Name == config.TokenVolume
	})
}

// restorer undoes what forwarder does.
type restorer struct {
	known actions
	errs  field.ErrorList
}

func (r *restorer) container(app appContainer) {
	probes := []struct {
		kind  appprobe.Kind
		probe *corev1.Probe
		name  string
	}{
		{appprobe.Liveness, app.LivenessProbe, "livenessProbe"},
		{appprobe.Readiness, app.ReadinessProbe, "readinessProbe"},
		{appprobe.Startup, app.StartupProbe, "startupProbe"},
	}
	for _, p := range probes {
		if p.probe == nil {
			continue
		}
		if h, ok := r.original(app, p.kind, p.probe.HTTPGet, app.path.Child(p.name)); ok {
			p.probe.ProbeHandler = corev1.ProbeHandler{HTTPGet: h.HTTPGet, TCPSocket: h.TCPSocket, GRPC: h.GRPC}
		}
	}
	if app.Lifecycle == nil {
		return
	}
	hooks := []struct {
		kind appprobe.Kind
		hook *corev1.LifecycleHandler
		name string
	}{
		{appprobe.PostStart, app.Lifecycle.PostStart, "postStart"},
		{appprobe.PreStop, app.Lifecycle.PreStop, "preStop"},
	}
	for _, l := range hooks {
		if l.hook == nil {
			continue
		}
		if h, ok := r.original(app, l.kind, l.hook.HTTPGet, app.path.Child("lifecycle", l.name)); ok {
			l.hook.HTTPGet = h.HTTPGet
		}
	}
}

// original returns the application's handler for one that now calls the agent, and false if it does not.
func (r *restorer) original(app appContainer, kind appprobe.Kind, get *corev1.HTTPGetAction, path *field.Path) (action, bool) {
	agentPath := appprobe.Path(app.Name, kind)
	if !isAgentGet(get, agentPath) {
		return action{}, false
	}
	h, ok := r.known[agentPath]
	if !ok {
		r.errs = append(r.errs, unknownProbe(path, agentPath, r.known))
	}
	return h, ok
}
