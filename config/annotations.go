package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

const (
	wantSecrets = "names of Secrets in the pod's namespace, separated by commas"
	wantPorts   = "TCP ports from 1 to 65535, separated by commas"
	wantCIDRs   = "CIDRs whose host bits are zero, separated by commas, such as 10.0.0.0/8,fd00::/8"
)

// SidecarFor returns the sidecar settings of a pod: base, overridden by the pod's annotations. It does not change base.
// The error joins all mistakes, each with the key, the value and the allowed values. An unknown key with our prefix is
// an error, too, because nobody would notice a typo that is ignored.
func SidecarFor(base Sidecar, annotations map[string]string) (Sidecar, error) {
	s := base.clone()
	var errs []error
	for _, name := range sortedKeys(annotations) {
		if !ours(name) {
			continue
		}
		value := annotations[name]
		key, err := findKey(OnPod, Annotation, name)
		switch {
		case err != nil:
			errs = append(errs, err)
		case key.set != nil && !key.set(&s, value), key.setMTLS != nil && !key.setMTLS(&MTLS{}, value):
			errs = append(errs, key.errorf(value, "want %s", key.Values))
		}
	}
	if len(errs) == 0 { // otherwise these would only repeat earlier errors
		errs = s.limitErrors(annotations)
	}
	return s, joinErrors(errs)
}

// SidecarForNamespace returns the default sidecar settings of a namespace's pods: base, overridden by the namespace's
// annotations. A bad value is an error. Unknown keys are ignored: they were reported when they were written, and are no
// reason to stop the namespace's pods.
func SidecarForNamespace(base Sidecar, name string, annotations map[string]string) (Sidecar, error) {
	s := base.clone()
	var errs []error
	for _, annotation := range sortedKeys(annotations) {
		key, err := findKey(OnNamespace, Annotation, annotation)
		if err == nil && key.set != nil && !key.set(&s, annotations[annotation]) {
			errs = append(errs, key.errorf(annotations[annotation], "want %s", key.Values))
		}
	}
	if len(errs) == 0 {
		errs = s.limitErrors(annotations)
	}
	if err := joinErrors(errs); err != nil {
		return s, fmt.Errorf("namespace %s has the %w", name, err)
	}
	return s, nil
}

// CheckPodLabels reports labels of a pod with our prefix that are unknown or hold a bad value.
func CheckPodLabels(labels map[string]string) error {
	var errs []error
	for _, name := range sortedKeys(labels) {
		if !ours(name) {
			continue
		}
		key, err := findKey(OnPod, Label, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		// The injection label is a pod's only one so far, see TestTableIsComplete.
		if v := labels[name]; v != InjectionEnabled && v != InjectionDisabled {
			errs = append(errs, key.errorf(v, "want %s", key.Values))
		}
	}
	return joinErrors(errs)
}

func (k Key) errorf(value, format string, args ...any) error {
	return fmt.Errorf("%s %s: %q: %s", k.Kind, k.Name, value, fmt.Sprintf(format, args...))
}

func ours(name string) bool { return strings.HasPrefix(name, Group+"/") }

// findKey returns the entry for a key on an object. The error suggests what the user may have meant.
func findKey(on Object, kind KeyKind, name string) (Key, error) {
	var known []string
	for _, key := range Keys {
		if !slices.Contains(key.On, on) {
			continue
		}
		switch {
		case key.Name == name && key.Kind == kind:
			return key, nil
		case key.Name == name:
			return Key{}, fmt.Errorf("%s %s: set it as %s", kind, name, withArticle(key.Kind))
		case key.Kind == kind:
			known = append(known, key.Name)
		}
	}
	if near, ok := Nearest(name, known); ok {
		return Key{}, fmt.Errorf("%s %s: unknown; did you mean %s?", kind, name, near)
	}
	return Key{}, fmt.Errorf("%s %s: unknown; want one of %s", kind, name, strings.Join(known, ", "))
}

func withArticle(kind KeyKind) string {
	if kind == Annotation {
		return "an annotation"
	}
	return "a label"
}

func joinErrors(errs []error) error {
	if len(errs) <= 1 {
		return errors.Join(errs...)
	}
	texts := make([]string, len(errs))
	for i, err := range errs {
		texts[i] = err.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}

// limitErrors reports a limit below its request. Kubernetes would refuse it with a message about a container that the
// user did not write.
func (s Sidecar) limitErrors(annotations map[string]string) []error {
	var errs []error
	for _, r := range []struct {
		name           corev1.ResourceName
		request, limit string
	}{
		{corev1.ResourceCPU, AnnotationCPURequest, AnnotationCPULimit},
		{corev1.ResourceMemory, AnnotationMemoryRequest, AnnotationMemoryLimit},
	} {
		request, hasRequest := s.Resources.Requests[r.name]
		limit, hasLimit := s.Resources.Limits[r.name]
		if !hasRequest || !hasLimit || request.Cmp(limit) <= 0 {
			continue
		}
		if value, ok := annotations[r.limit]; ok {
			errs = append(errs, fmt.Errorf("annotation %s: %q: want at least the request, %s (%s)", r.limit, value, request.String(), r.request))
		} else {
			errs = append(errs, fmt.Errorf("annotation %s: %q: want at most the limit, %s (%s)", r.request, annotations[r.request], limit.String(), r.limit))
		}
	}
	return errs
}

func (s Sidecar) clone() Sidecar {
	s.Resources = *s.Resources.DeepCopy()
	s.ExcludeInboundPorts = slices.Clone(s.ExcludeInboundPorts)
	s.ExcludeOutboundPorts = slices.Clone(s.ExcludeOutboundPorts)
	s.ExcludeOutboundCIDRs = slices.Clone(s.ExcludeOutboundCIDRs)
	s.ImagePullSecrets = slices.Clone(s.ImagePullSecrets)
	return s // the pointers are replaced, never written through
}

func requests(s *Sidecar) *corev1.ResourceList { return &s.Resources.Requests }
func limits(s *Sidecar) *corev1.ResourceList   { return &s.Resources.Limits }

func setQuantity(list func(*Sidecar) *corev1.ResourceList, name corev1.ResourceName) func(*Sidecar, string) bool {
	return func(s *Sidecar, value string) bool {
		target := list(s)
		if value == "0" && target == limits(s) {
			delete(*target, name)
			return true
		}
		quantity, err := resource.ParseQuantity(value)
		if err != nil {
			return false
		}
		if _, ok := validQuantity(name, quantity); !ok {
			return false
		}
		if *target == nil {
			*target = corev1.ResourceList{}
		}
		(*target)[name] = quantity
		return true
	}
}

func setLogLevel(s *Sidecar, value string) bool {
	s.LogLevel = value
	return slices.Contains(LogLevels, value)
}

func setConcurrency(s *Sidecar, value string) bool {
	n, err := strconv.ParseUint(value, 10, 31)
	s.Concurrency = new(int32(n))
	return err == nil && n <= maxConcurrency
}

func setPorts(list func(*Sidecar) *[]int32) func(*Sidecar, string) bool {
	return func(s *Sidecar, value string) bool {
		ports := []int32{}
		for _, item := range splitList(value) {
			n, err := strconv.ParseInt(item, 10, 32)
			if err != nil || !validPort(int32(n)) {
				return false
			}
			ports = append(ports, int32(n))
		}
		*list(s) = ports
		return true
	}
}

func setCIDRs(s *Sidecar, value string) bool {
	s.ExcludeOutboundCIDRs = splitList(value)
	return !slices.ContainsFunc(s.ExcludeOutboundCIDRs, func(cidr string) bool { return !validCIDR(cidr) })
}

func setPullSecrets(s *Sidecar, value string) bool {
	s.ImagePullSecrets = splitList(value)
	return !slices.ContainsFunc(s.ImagePullSecrets, func(name string) bool { return !validObjectName(name) })
}

func setDrainDelay(s *Sidecar, value string) bool {
	d, err := time.ParseDuration(value)
	s.DrainDelay = &metav1.Duration{Duration: d}
	return err == nil && validDrainDelay(d)
}

func setLogAnswers(s *Sidecar, value string) bool {
	s.LogAnswers = value == "true"
	return s.LogAnswers || value == "false"
}

func setConfigScope(s *Sidecar, value string) bool {
	s.ConfigScope = value
	return slices.Contains(fixed.ConfigScopes, value)
}

// splitList splits at commas and trims the items. Only an empty value has no items; "80,,81" has an empty item.
func splitList(value string) []string {
	if strings.TrimSpace(value) == "" {
		return nil
	}
	items := strings.Split(value, ",")
	for i := range items {
		items[i] = strings.TrimSpace(items[i])
	}
	return items
}
