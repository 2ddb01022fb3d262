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
	// Warnings are for the user who creates the pod.
	Warnings []string
}

// Inject gives a copy of the pod with the sidecar. The error joins everything about the pod that is
// refused, each with its field or key, value and what is allowed. trustBundle holds the mesh's roots in PEM
// (CheckTrustBundle); empty is a mesh without identity. probeKey is what the kubelet will show to the agent with
// forwarded probes; NewProbeKey makes one. A pod that has one keeps it.
//
// A pod that carries the sidecar already is left alone but for what came later: another webhook may
// have added a container, whose probes and shutdown then need the same care. Our own containers are
// not written again, because another webhook may have changed them on purpose (a registry mirror, say).
func Inject(pod *corev1.Pod, cfg *config.Mesh, version string, trustBundle []byte, probeKey string) (*corev1.Pod, Report, error) {
	if cfg.Sidecar.Image == "" {
		return nil, Report{}, errors.New("the mesh configuration has no sidecar.image")
	}
	if len(trustBundle) == 0 && cfg.Identity.Enabled != nil && *cfg.Identity.Enabled {
		return nil, Report{}, errors.New("the mesh has identities (identity.enabled), and no trust bundle is given")
	}
	out := pod.DeepCopy()
	own, nameErrs := findOwn(&out.Spec)
	sidecar, annotationErr := config.SidecarFor(cfg.Sidecar, out.Annotations)
	apps := appContainers(&out.Spec)
	forward := forwarder{
		known:    own.handlers,
		key:      own.key(probeKey),
		handlers: appprobe.Handlers{},
	}
	forward.all(apps)

	fieldErrs := slices.Concat(nameErrs, checkContainers(&out.Spec, apps), forward.errs)
	if err := join(annotationErr, config.CheckPodLabels(out.Labels), fieldErrs.ToAggregate()); err != nil {
		return nil, Report{}, err
	}
	report := Report{Forwarded: forward.forwarded, Warnings: forward.warnings}
	drain(&out.Spec, sidecar.DrainDelay.Duration, &report)
	reservePorts(&out.Spec, &report)

	if own.proxy == nil {
		out.Spec.InitContainers = append([]corev1.Container{captureContainer(sidecar, len(trustBundle) > 0), proxyContainer(cfg, sidecar, Workload(pod))}, out.Spec.InitContainers...)
		addPodResources(&out.Spec, sidecar.Resources)
		annotate(out, config.AnnotationInjected, version)
	} else {
		moveOwnToFront(&out.Spec)
		if _, ok := out.Annotations[config.AnnotationInjected]; !ok {
			annotate(out, config.AnnotationInjected, version) // lost on the way, as when a pod is copied
		}
	}
	proxy := &out.Spec.InitContainers[1]
	if err := setHandlers(proxy, forward.handlers, forward.key); err != nil {
		return nil, Report{}, err
	}
	addVolume(&out.Spec)
	if len(trustBundle) > 0 {
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

// NewProbeKey makes a key that nobody guesses.
func NewProbeKey() string { return rand.Text() }

// appContainer is a container that is not ours, and where it stands in the pod.
type appContainer struct {
	*corev1.Container
	path *field.Path
}

// appContainers lists the pod's own containers, init containers first. They point into spec.
func appContainers(spec *corev1.PodSpec) []appContainer {
	var apps []appContainer
	add := func(list []corev1.Container, name string) {
		for i := range list {
			if !isOwnName(list[i].Name) {
				apps = append(apps, appContainer{&list[i], field.NewPath("spec", name).Index(i)})
			}
		}
	}
	add(spec.InitContainers, "initContainers")
	add(spec.Containers, "containers")
	return apps
}

// moveOwnToFront undoes what a webhook did that put its init container before ours: without capture
// and proxy in front, that container would run outside the mesh.
func moveOwnToFront(spec *corev1.PodSpec) {
	rank := func(c corev1.Container) int {
		switch c.Name {
		case config.CaptureContainer:
			return 0
		case config.ProxyContainer:
			return 1
		default:
			return 2
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
		switch e := err.(type) {
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
