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
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// defaultContainerAnnotation names the container that kubectl logs and exec choose; without it kubectl chooses the
// first one and says so on every call.
const defaultContainerAnnotation = "kubectl.kubernetes.io/default-container"

// defaultGracePeriod is the default of Kubernetes for terminationGracePeriodSeconds.
const defaultGracePeriod = corev1.DefaultTerminationGracePeriodSeconds

// Report says what Inject did to a pod.
type Report struct {
	// Changed is false if the pod already had everything.
	Changed bool
	// Forwarded are the agent paths of probes and lifecycle hooks that now go through the agent.
	Forwarded []string
	// Drained are the containers that got a preStop sleep, of DrainSeconds.
	Drained      []string
	DrainSeconds int64
	// MadeAnew is set if the new sidecar replaces another one in the pod.
	MadeAnew bool
	// Warnings are for the user who creates the pod.
	Warnings []string
	// Namespace are the warnings that come from the rules of the pod's namespace, and from its QoS class.
	Namespace []string
}

// Inject returns a copy of the pod with the sidecar. The error joins all reasons to refuse the pod, each with its field
// or key, its value and the allowed values. trustBundle has the mesh's roots in PEM (CheckTrustBundle); it is empty in
// a mesh without identities. probeKey is the secret that the kubelet sends to the agent with forwarded probes;
// NewProbeKey makes one. A pod that already has a key keeps it. ns has the settings and rules of the pod's namespace.
//
// If the pod already has the right sidecar, Inject handles only later additions: another webhook may have added a
// container, whose probes and shutdown need the same care. It does not write the sidecar's containers again then,
// because another webhook may have changed them on purpose (for a registry mirror, say). Any other sidecar comes with a
// copied pod, from another namespace or another version of the mesh, and is replaced (mark.go).
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
		handlers:   actions{},
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
			annotate(out, config.AnnotationInjected, version) // lost, for example because the pod was copied
		}
	}
	containers, ok := sidecar.Find(&out.Spec)
	if !ok {
		return nil, Report{}, errors.New("the pod has no sidecar after injection") // a bug in Mizzen
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

// sidecarContainers returns the containers that injection puts before a pod's init containers.
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
	if cfg.Revision != "" {
		proxy.Env = append(proxy.Env, corev1.EnvVar{Name: contract.RevisionEnv, Value: cfg.Revision})
	}
	if byCNI {
		return []corev1.Container{holdsStart(proxy)}, nil
	}
	return []corev1.Container{proxy, captureContainer(s, captured)}, nil
}

// NewProbeKey returns a random key.
func NewProbeKey() string { return rand.Text() }

// appContainer is a container of the application with its path in the pod.
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

// moveOwnToFront moves the sidecar's containers to the front again if another webhook put its init container before
// them. Otherwise that container would run outside the mesh.
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

// join returns all errors as one line.
func join(errs ...error) error {
	var texts []string
	for _, err := range errs {
		switch e := err.(type) { //nolint:errorlint // a wrapped list has a text of its own
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
