package config

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// Descriptions of allowed values, in words that follow "want". The file and the annotations share them.
const (
	wantPort        = "a TCP port from 1 to 65535"
	wantCIDR        = "a CIDR whose host bits are zero, such as 10.0.0.0/8 or fd00::/8"
	wantConcurrency = "a whole number from 0 to 64"
	wantDrainDelay  = "whole seconds from 0s to 1h, such as 5s"
	wantCPU         = "a CPU quantity above 0, such as 100m or 2"
	wantMemory      = "a memory quantity of at least 1Mi, such as 128Mi or 1Gi"
)

const (
	maxConcurrency = 64
	maxDrainDelay  = time.Hour
	maxRetries     = 10
	// maxAhead is the largest allowed number of Service ports that are sent ahead.
	maxAhead = 50_000
	// Even with the shortest lifetime, a sidecar can try a few times to renew its certificate.
	minCertificateLifetime = 2 * time.Minute
	maxCALifetime          = 100 * 365 * 24 * time.Hour
	// A memory quantity below this lacks its unit ("128") or has a wrong one ("128m" is milli-bytes).
	minMemory = 1 << 20
)

// LogLevels are Envoy's own names.
var LogLevels = []string{"trace", "debug", "info", "warning", "error", "critical", "off"}

// Validate reports all mistakes in a configuration, like Parse. Missing fields must already have their defaults.
func (m *Mesh) Validate() error { return m.validate().ToAggregate() }

// ValidateForInjection is Validate, and also requires the sidecar's image.
func (m *Mesh) ValidateForInjection() error {
	errs := m.validate()
	if m.Sidecar.Image == "" {
		errs = append(errs, field.Required(field.NewPath("sidecar", "image"), "the image of the sidecar and of the init container"))
	}
	return errs.ToAggregate()
}

func (m *Mesh) checkType() field.ErrorList {
	var errs field.ErrorList
	if m.APIVersion != "" && m.APIVersion != APIVersion {
		errs = append(errs, field.NotSupported(field.NewPath("apiVersion"), m.APIVersion, []string{APIVersion}))
	}
	if m.Kind != "" && m.Kind != Kind {
		errs = append(errs, field.NotSupported(field.NewPath("kind"), m.Kind, []string{Kind}))
	}
	return errs
}

func (m *Mesh) validate() field.ErrorList {
	var errs field.ErrorList
	for _, msg := range validation.IsDNS1123Subdomain(m.ClusterDomain) {
		errs = append(errs, field.Invalid(field.NewPath("clusterDomain"), m.ClusterDomain, msg))
	}
	if !isHostPort(m.ControlPlaneAddress) {
		errs = append(errs, field.Invalid(field.NewPath("controlPlaneAddress"), m.ControlPlaneAddress,
			`want "<host>:<port>", such as mizzen-controller.mizzen-system.svc:15010`))
	}
	errs = append(errs, m.validateRevision(field.NewPath("revision"))...)
	errs = append(errs, checkCIDRs(field.NewPath("serviceCIDRs"), m.ServiceCIDRs)...)
	for _, msg := range validation.IsDNS1123Subdomain(m.TrustDomain) {
		errs = append(errs, field.Invalid(field.NewPath("trustDomain"), m.TrustDomain, msg))
	}
	errs = append(errs, m.Identity.validate(field.NewPath("identity"))...)
	errs = append(errs, m.Detection.validate(field.NewPath("protocolDetection"))...)
	errs = append(errs, m.Traffic.validate(field.NewPath("traffic"))...)
	errs = append(errs, m.OnDemand.validate(field.NewPath("onDemand"))...)
	errs = append(errs, m.validateMTLS(field.NewPath("mtls", "mode"))...)
	errs = append(errs, checkDuration(field.NewPath("mtls", "drainTime"), m.MTLS.DrainTime, 2*time.Second, time.Hour)...)
	errs = append(errs, m.Gateways.validate(field.NewPath("gateway"))...)
	return append(errs, m.Sidecar.validate(field.NewPath("sidecar"))...)
}

// maxRevision leaves room in the name of a Service for the control plane's.
const maxRevision = 32

const wantRevision = "a DNS label of at most 32 characters, such as canary"

func validRevision(name string) bool {
	return len(name) <= maxRevision && len(validation.IsDNS1123Label(name)) == 0
}

func (m *Mesh) validateRevision(path *field.Path) field.ErrorList {
	if m.Revision == "" {
		return nil
	}
	if !validRevision(m.Revision) {
		return field.ErrorList{field.Invalid(path, m.Revision, "want "+wantRevision)}
	}
	if *m.Gateways.Enabled {
		return field.ErrorList{field.Invalid(field.NewPath("gateway", "enabled"), true, "want false in a revision: the main control plane serves Gateways")}
	}
	return nil
}

func (g Gateways) validate(path *field.Path) field.ErrorList {
	errs := g.Defaults.validate(path.Child("defaults"))
	if !validObjectName(g.ClassName) {
		errs = append(errs, field.Invalid(path.Child("className"), g.ClassName, "want the name of a GatewayClass"))
	}
	return errs
}

// The bounds leave enough time to rotate the root before the old root expires (internal/rotation).
func (i Identity) validate(path *field.Path) field.ErrorList {
	errs := checkDuration(path.Child("caLifetime"), i.CALifetime, 3*minCertificateLifetime, maxCALifetime)
	if len(errs) > 0 {
		return errs
	}
	third := i.CALifetime.Duration / 3
	errs = checkDuration(path.Child("certificateLifetime"), i.CertificateLifetime, minCertificateLifetime, third)
	return append(errs, checkDuration(path.Child("caSettle"), i.CASettle, time.Second, third/2)...)
}

func (d Detection) validate(path *field.Path) field.ErrorList {
	errs := checkDuration(path.Child("timeout"), d.Timeout, time.Millisecond, time.Minute)
	return append(errs, checkPorts(path.Child("opaquePorts"), d.OpaquePorts)...)
}

func (t Traffic) validate(path *field.Path) field.ErrorList {
	errs := checkDuration(path.Child("connectTimeout"), t.ConnectTimeout, time.Millisecond, 5*time.Minute)
	errs = append(errs, checkPeerTimeout(path.Child("peerTimeout"), t.PeerTimeout)...)
	errs = append(errs, checkInt(path.Child("connectFailures"), t.ConnectFailures, 0, maxLimit)...)
	retry := path.Child("retry")
	errs = append(errs, checkInt(retry.Child("attempts"), t.Retry.Attempts, 0, maxRetries)...)
	errs = append(errs, checkBudget(retry, t.Retry.BudgetPercent, t.Retry.MinConcurrent)...)
	return append(errs, checkBudget(path.Child("routeRetry"), t.RouteRetry.BudgetPercent, t.RouteRetry.MinConcurrent)...)
}

// validPeerTimeout reports whether a timeout works for the kernel, which counts keepalive in whole seconds: three
// probes and a wait before them.
func validPeerTimeout(d time.Duration) bool { return d == 0 || d >= 3*time.Second && d <= 24*time.Hour }

func checkPeerTimeout(path *field.Path, d *metav1.Duration) field.ErrorList {
	if d != nil && validPeerTimeout(d.Duration) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, durationText(d), "want a duration from 3s to 24h, or 0s for the kernel's default")}
}

func checkBudget(path *field.Path, percent, minConcurrent *int32) field.ErrorList {
	errs := checkInt(path.Child("budgetPercent"), percent, 1, 100)
	return append(errs, checkInt(path.Child("minConcurrent"), minConcurrent, 0, 1_000_000)...)
}

func (o OnDemand) validate(path *field.Path) field.ErrorList {
	errs := checkDuration(path.Child("timeout"), o.Timeout, time.Second, 5*time.Minute)
	errs = append(errs, checkInt(path.Child("wholeMesh"), o.WholeMesh, 0, maxAhead)...)
	return append(errs, checkInt(path.Child("namespace"), o.Namespace, 0, maxAhead)...)
}

func (m *Mesh) validateMTLS(path *field.Path) field.ErrorList {
	if !slices.Contains(MTLSModes, m.MTLS.Mode) {
		return field.ErrorList{field.NotSupported(path, m.MTLS.Mode, MTLSModes)}
	}
	if m.MTLS.Mode == Strict && !*m.Identity.Enabled {
		return field.ErrorList{field.Invalid(path, m.MTLS.Mode, "want permissive while identity.enabled is false, because strict would refuse every call")}
	}
	return nil
}

func (s Sidecar) validate(path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if strings.ContainsFunc(s.Image, func(r rune) bool { return r <= ' ' }) {
		errs = append(errs, field.Invalid(path.Child("image"), s.Image, "want an image reference without white space"))
	}
	policies := []corev1.PullPolicy{"", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}
	if !slices.Contains(policies, s.ImagePullPolicy) {
		errs = append(errs, field.NotSupported(path.Child("imagePullPolicy"), s.ImagePullPolicy, policies[1:]))
	}
	for i, name := range s.ImagePullSecrets {
		if !validObjectName(name) {
			errs = append(errs, field.Invalid(path.Child("imagePullSecrets").Index(i), name, "want the name of a Secret"))
		}
	}
	if !slices.Contains(LogLevels, s.LogLevel) {
		errs = append(errs, field.NotSupported(path.Child("logLevel"), s.LogLevel, LogLevels))
	}
	errs = append(errs, checkInt(path.Child("concurrency"), s.Concurrency, 0, maxConcurrency)...)
	if s.DrainDelay == nil || !validDrainDelay(s.DrainDelay.Duration) {
		errs = append(errs, field.Invalid(path.Child("drainDelay"), durationText(s.DrainDelay), "want "+wantDrainDelay))
	}
	if !fixed.ValidConfigScope(s.ConfigScope) {
		errs = append(errs, field.NotSupported(path.Child("configScope"), s.ConfigScope, fixed.ConfigScopes))
	}
	errs = append(errs, checkPorts(path.Child("excludeInboundPorts"), s.ExcludeInboundPorts)...)
	errs = append(errs, checkPorts(path.Child("excludeOutboundPorts"), s.ExcludeOutboundPorts)...)
	errs = append(errs, checkCIDRs(path.Child("excludeOutboundCIDRs"), s.ExcludeOutboundCIDRs)...)
	return append(errs, checkResources(path.Child("resources"), s.Resources)...)
}

func checkResources(path *field.Path, r corev1.ResourceRequirements) field.ErrorList {
	var errs field.ErrorList
	if len(r.Claims) > 0 {
		errs = append(errs, field.Forbidden(path.Child("claims"), "want no claims: a sidecar cannot have device claims"))
	}
	errs = append(errs, checkQuantities(path.Child("requests"), r.Requests)...)
	errs = append(errs, checkQuantities(path.Child("limits"), r.Limits)...)
	for _, name := range sortedNames(r.Requests) {
		request := r.Requests[name]
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			errs = append(errs, field.Invalid(path.Child("requests").Key(string(name)), request.String(),
				"want at most the limit, "+limit.String()))
		}
	}
	return errs
}

func checkQuantities(path *field.Path, list corev1.ResourceList) field.ErrorList {
	var errs field.ErrorList
	for _, name := range sortedNames(list) {
		quantity := list[name]
		if want, ok := validQuantity(name, quantity); !ok {
			errs = append(errs, field.Invalid(path.Key(string(name)), quantity.String(), "want "+want))
		}
	}
	return errs
}

// validQuantity also returns what is wanted.
func validQuantity(name corev1.ResourceName, quantity resource.Quantity) (want string, ok bool) {
	switch name {
	case corev1.ResourceCPU:
		return wantCPU, quantity.Sign() > 0
	case corev1.ResourceMemory:
		return wantMemory, quantity.Value() >= minMemory
	default:
		return "a quantity that is not negative", quantity.Sign() >= 0
	}
}

func checkDuration(path *field.Path, d *metav1.Duration, low, high time.Duration) field.ErrorList {
	if d == nil || d.Duration < low || d.Duration > high {
		return field.ErrorList{field.Invalid(path, durationText(d), fmt.Sprintf("want a duration from %v to %v", low, high))}
	}
	return nil
}

func checkInt(path *field.Path, v *int32, low, high int32) field.ErrorList {
	if v == nil || *v < low || *v > high {
		return field.ErrorList{field.Invalid(path, v, fmt.Sprintf("want a whole number from %d to %d", low, high))}
	}
	return nil
}

func checkPorts(path *field.Path, ports []int32) field.ErrorList {
	var errs field.ErrorList
	for i, port := range ports {
		if !validPort(port) {
			errs = append(errs, field.Invalid(path.Index(i), port, "want "+wantPort))
		}
	}
	return errs
}

func checkCIDRs(path *field.Path, cidrs []string) field.ErrorList {
	var errs field.ErrorList
	for i, cidr := range cidrs {
		if !validCIDR(cidr) {
			errs = append(errs, field.Invalid(path.Index(i), cidr, "want "+wantCIDR))
		}
	}
	return errs
}

func validPort(port int32) bool { return port >= 1 && port <= 65535 }

// validObjectName reports whether a name is valid for a Secret.
func validObjectName(name string) bool { return len(validation.IsDNS1123Subdomain(name)) == 0 }

func validCIDR(s string) bool {
	prefix, err := netip.ParsePrefix(s)
	return err == nil && prefix == prefix.Masked()
}

func validDrainDelay(d time.Duration) bool {
	return d >= 0 && d <= maxDrainDelay && d%time.Second == 0
}

func isHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return false
	}
	number, err := strconv.ParseInt(port, 10, 32)
	return err == nil && validPort(int32(number))
}

func durationText(d *metav1.Duration) string {
	if d == nil {
		return ""
	}
	return d.Duration.String()
}

func sortedNames(list corev1.ResourceList) []corev1.ResourceName {
	names := make([]corev1.ResourceName, 0, len(list))
	for name := range list {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
