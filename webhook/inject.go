package webhook

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// defaultContainerAnnotation names the container that kubectl logs and exec choose; without it kubectl
// takes the first one and says so on every call.
const defaultContainerAnnotation = "kubectl.kubernetes.io/default-container"

// defaultGracePeriod is what Kubernetes sets where terminationGracePeriodSeconds is left out.
const defaultGracePeriod = corev1.DefaultTerminationGracePeriodSeconds

// Report says what Inject did to a pod.
type Report struct {
	// Changed is false if the pod carried everything already.
	Changed bool
	// Forwarded are the agent paths of probes and lifecycle hooks that now go through the agent.
	Forwarded []string
	// Drained are the containers that got a preStop sleep, of DrainSeconds.
	Drained      []string
	DrainSeconds int64
	// MadeAnew is set where the pod carried another sidecar, whose place this one takes.
	MadeAnew bool
	// Warnings are for the user who creates the pod.
	Warnings []string
	// Namespace are those of the warnings that come from the rules of the pod's namespace, and from its QoS class.
	Namespace []string
}

// Inject gives a copy of the pod with the sidecar. The error joins everything about the pod that is
// refused, each with its field or key, value and what is allowed. trustBundle holds the mesh's roots in PEM
// (CheckTrustBundle); empty is a mesh without identity. probeKey is what the kubelet will show to the agent with
// forwarded probes; NewProbeKey makes one. A pod that has one keeps it. ns is what the pod's namespace says of it.
//
// A pod that carries the sidecar that it would get is left alone but for what came later: another webhook may
// have added a container, whose probes and shutdown then need the same care. Our own containers are
// not written again then, because another webhook may have changed them on purpose (a registry mirror, say).
// Any other sidecar is that of a copy, from another place or another version of the mesh, and is made anew (mark.go).
func Inject(pod *corev1.Pod, ns Namespace, cfg *config.Mesh, version string, trustBundle []byte, probeKey string) (*corev1.Pod, Report, error) {
	if cfg.Sidecar.Image == "" {
		return nil, Report{}, errors.New("the mesh configuration has no sidecar.image")
	}
	if len(trustBundle) == 0 && cfg.Identity.Enabled != nil && *cfg.Identity.Enabled {
		return nil, Report{}, errors.New("the mesh has identities (identity.enabled), but there is no trust bundle")
	}
	out := pod.DeepCopy()
	own, nameErrs := findOwn(&out.Spec)
	base, namespaceErr := config.SidecarForNamespace(cfg.Sidecar, pod.Namespace, ns.Annotations)
	settings, annotationErr := config.SidecarFor(base, out.Annotations)
	apps := appContainers(&out.Spec)
	forward := forwarder{
		uncaptured: settings.ExcludeInboundPorts,
		known:      own.handlers,
		key:        own.key(probeKey),
		handlers:   appprobe.Handlers{},
	}
	forward.all(apps)

	fieldErrs := slices.Concat(nameErrs, checkContainers(&out.Spec, apps), forward.errs)
	if err := join(namespaceErr, annotationErr, config.CheckPodLabels(out.Labels), fieldErrs.ToAggregate()); err != nil {
		return nil, Report{}, err
	}
	report := Report{Forwarded: forward.forwarded, Warnings: forward.warnings}
	drain(out, settings.DrainDelay.Duration, own.proxy != nil, &report)
	reservePorts(&out.Spec, &report)

	made, err := sidecarContainers(cfg, settings, Workload(pod), len(trustBundle) > 0)
	if err != nil {
		return nil, Report{}, err
	}
	if err := mark(made); err != nil {
		return nil, Report{}, err
	}
	if own.mark() != envValue(&made[0], markEnv) {
		removeOwn(&out.Spec)
		var changed []string
		settings.Resources, changed = resourcesFor(out, ns, settings.Resources)
		for i := range made {
			if made[i].Name == config.CaptureContainer {
				made[i].Resources = captureResources(out.Spec.Containers)
			} else {
				made[i].Resources = *settings.Resources.DeepCopy()
			}
		}
		report.Namespace = slices.Concat(changed, noRoom(out, ns.Quotas, settings.Resources))
		if why, want := RefusesCapture(ns.Labels); why != "" && !cfg.CNI.Enabled {
			report.Namespace = append(report.Namespace, why+"; want "+want)
		}
		report.Warnings = append(report.Warnings, report.Namespace...)
		addPodResources(out, settings.Resources)
		addPullSecrets(&out.Spec, settings.ImagePullSecrets)
		out.Spec.InitContainers = append(made, out.Spec.InitContainers...)
		annotate(out, config.AnnotationInjected, version)
		report.MadeAnew = own.proxy != nil
	} else {
		moveOwnToFront(&out.Spec)
		if _, ok := out.Annotations[config.AnnotationInjected]; !ok {
			annotate(out, config.AnnotationInjected, version) // lost on the way, as when a pod is copied
		}
	}
	containers, ok := sidecar.Find(&out.Spec)
	if !ok {
		return nil, Report{}, errors.New("the pod has no sidecar after injection") // a defect of ours
	}
	proxy := &out.Spec.InitContainers[containers.Proxy]
	if err := setHandlers(proxy, forward.handlers, forward.key); err != nil {
		return nil, Report{}, err
	}
	if len(trustBundle) > 0 {
		addKeepKey(&out.Spec, proxy, forward.key)
		if err := addIdentity(proxy, cfg.ControlPlaneAddress, trustBundle); err != nil {
			return nil, Report{}, err
		}
	}
	if hasIdentity(proxy) {
		addTokenVolume(&out.Spec)
	}
	if _, ok := out.Annotations[defaultContainerAnnotation]; !ok && len(out.Spec.Containers) > 0 {
		annotate(out, defaultContainerAnnotation, out.Spec.Containers[0].Name)
	}
	report.Changed = !equality.Semantic.DeepEqual(pod, out)
	return out, report, nil
}

// sidecarContainers are what injection puts in front of a pod's init containers.
func sidecarContainers(cfg *config.Mesh, s config.Sidecar, workload string, identity bool) ([]corev1.Container, error) {
	captured, err := captured(s, identity)
	if err != nil {
		return nil, err
	}
	byCNI := cfg.CNI.Enabled
	args := contract.Run{
		ControlPlane: cfg.ControlPlaneAddress, LogLevel: s.LogLevel, LogAnswers: s.LogAnswers, Concurrency: int(*s.Concurrency),
		ConfigScope: s.ConfigScope, AwaitCapture: identity && !byCNI, CaptureByCNI: byCNI,
	}.Args(captured)
	proxy := proxyContainer(s, args, workload)
	if byCNI {
		return []corev1.Container{holdsStart(proxy)}, nil
	}
	return []corev1.Container{proxy, captureContainer(s, captured)}, nil
}

// NewProbeKey makes a key that nobody guesses.
func NewProbeKey() string { return rand.Text() }

// appContainer is a container of the application, and where it stands in the pod.
type appContainer struct {
	*corev1.Container
	path *field.Path
}

// appContainers lists the application's containers, init containers first. They point into spec.
func appContainers(spec *corev1.PodSpec) []appContainer {
	var apps []appContainer
	for _, app := range sidecar.Apps(spec) {
		list := "containers"
		if app.Init {
			list = "initContainers"
		}
		apps = append(apps, appContainer{app.Container, field.NewPath("spec", list).Index(app.Index)})
	}
	return apps
}

// moveOwnToFront undoes what a webhook did that put its init container before ours: without capture
// and proxy in front, that container would run outside the mesh.
//
// In pods of an earlier version capture comes before the proxy, which holds the pod's start itself.
func moveOwnToFront(spec *corev1.PodSpec) {
	captureRank := 0
	for _, c := range spec.InitContainers {
		if c.Name == config.CaptureContainer && contract.IsOn(c.Args, contract.AwaitSidecarFlag) {
			captureRank = 2
		}
	}
	rank := func(c corev1.Container) int {
		switch c.Name {
		case config.ProxyContainer:
			return 1
		case config.CaptureContainer:
			return captureRank
		default:
			return 3
		}
	}
	slices.SortStableFunc(spec.InitContainers, func(a, b corev1.Container) int { return rank(a) - rank(b) })
}

func gracePeriod(spec *corev1.PodSpec) int64 {
	if spec.TerminationGracePeriodSeconds == nil {
		return defaultGracePeriod
	}
	return min(max(*spec.TerminationGracePeriodSeconds, 0), 1<<31-1)
}

func annotate(pod *corev1.Pod, key, value string) {
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	pod.Annotations[key] = value
}

// join makes one line of everything that is wrong.
func join(errs ...error) error {
	var texts []string
	for _, err := range errs {
		switch e := err.(type) { //nolint:errorlint // a list that is wrapped has a text of its own
		case nil:
		case utilerrors.Aggregate:
			for _, one := range e.Errors() {
				texts = append(texts, one.Error())
			}
		default:
			texts = append(texts, err.Error())
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return errors.New(strings.Join(texts, "; "))
}
