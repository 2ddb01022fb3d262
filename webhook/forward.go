package webhook

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

// forwarder redirects probes and lifecycle hooks to the agent if the kubelet's own call might be refused: the kubelet
// has no certificate, and strict mTLS and policies refuse its plain text. A namespace may become strict while its pods
// run, and their probes cannot be changed then, so the current mode does not matter.
//
// A probe that only makes a connection stays as written. The capture rules redirect a connection to Envoy only if the
// application listens, and refuse it otherwise, in every mode.
type forwarder struct {
	// uncaptured are the ports that the kubelet reaches without Envoy.
	uncaptured []int32

	// known are the handlers of an earlier injection; nil if there was none.
	known actions
	// key is the secret that the kubelet sends to the agent.
	key string
	// handlers are all actions that the agent runs.
	handlers actions

	forwarded []string // agent paths, without those known before
	warnings  []string
	errs      field.ErrorList
}

func (f *forwarder) all(apps []appContainer) {
	for _, app := range apps {
		f.probe(app, appprobe.Liveness, app.LivenessProbe, "livenessProbe")
		f.probe(app, appprobe.Readiness, app.ReadinessProbe, "readinessProbe")
		f.probe(app, appprobe.Startup, app.StartupProbe, "startupProbe")
		if app.Lifecycle != nil {
			f.hook(app, appprobe.PostStart, app.Lifecycle.PostStart, "postStart")
			f.hook(app, appprobe.PreStop, app.Lifecycle.PreStop, "preStop")
		}
	}
}

// probe keeps the thresholds and the timeout, so the kubelet never gives up before the agent does. Kubernetes refuses a
// probe with several actions itself.
func (f *forwarder) probe(app appContainer, kind appprobe.Kind, p *corev1.Probe, name string) {
	if p == nil || p.Exec != nil || count(p.HTTPGet != nil, p.TCPSocket != nil, p.GRPC != nil) != 1 {
		return
	}
	path := app.path.Child(name)
	if p.TCPSocket != nil {
		f.checkSocket(p.TCPSocket, path.Child("tcpSocket", "port"))
		return
	}
	h := action{HTTPGet: p.HTTPGet, GRPC: p.GRPC, TimeoutSeconds: max(p.TimeoutSeconds, 1)}
	if f.forward(app, kind, h, path) {
		p.ProbeHandler = corev1.ProbeHandler{HTTPGet: f.agentGet(app, kind)}
	}
}

// checkSocket refuses probes that would test the sidecar in place of the application.
func (f *forwarder) checkSocket(socket *corev1.TCPSocketAction, path *field.Path) {
	if port := socket.Port.IntVal; socket.Host == "" && slices.Contains(reservedPorts, port) {
		f.errs = append(f.errs, reservedPort(path, port))
	}
}

// hook forwards HTTP hooks; exec and sleep need no network, and tcpSocket hooks do nothing in
// Kubernetes (https://pkg.go.dev/k8s.io/api/core/v1#LifecycleHandler).
func (f *forwarder) hook(app appContainer, kind appprobe.Kind, l *corev1.LifecycleHandler, name string) {
	if l == nil || l.HTTPGet == nil || count(l.Exec != nil, l.TCPSocket != nil, l.Sleep != nil) > 0 {
		return
	}
	h := action{HTTPGet: l.HTTPGet}
	if f.forward(app, kind, h, app.path.Child("lifecycle", name)) {
		l.HTTPGet = f.agentGet(app, kind)
	}
}

// forward records the handler and reports whether the probe or hook goes to the agent.
func (f *forwarder) forward(app appContainer, kind appprobe.Kind, h action, path *field.Path) bool {
	agentPath := appprobe.Path(app.Name, kind)
	if isAgentGet(h.HTTPGet, agentPath) {
		known, ok := f.known[agentPath]
		if !ok {
			f.errs = append(f.errs, unknownProbe(path, agentPath, f.known))
		}
		f.handlers[agentPath] = known
		return true // with the key, which an older injection may lack
	}
	if host := hostOf(h); host != "" {
		// The kubelet calls that host from the node. The agent could not do the same from the pod.
		f.warnings = append(f.warnings, fmt.Sprintf("%s: host %q is set, so the kubelet calls it directly, not through the sidecar", path, host))
		return false
	}
	h, errs := resolve(app, h, path)
	if len(errs) > 0 {
		f.errs = append(f.errs, errs...)
		return false
	}
	if slices.Contains(f.uncaptured, portOf(h)) {
		return false
	}
	f.handlers[agentPath] = h
	f.forwarded = append(f.forwarded, agentPath)
	return true
}

// unknownProbe refuses a probe or hook that goes to the agent if the agent has no action for it. known is nil if the
// pod has no sidecar.
func unknownProbe(path *field.Path, agentPath string, known actions) *field.Error {
	why := "the sidecar does not know this probe; want the application's own probe"
	if known == nil {
		why = "this pod is a copy of a pod with a sidecar, but lacks the sidecar; want the init containers of the original, or the application's own probe"
	}
	return field.Invalid(path.Child("httpGet", "path"), agentPath, why)
}

// resolve copies the action, with its port as a number. It also repeats the checks of Kubernetes, because Kubernetes
// sees only the rewritten probe.
func resolve(app appContainer, h action, path *field.Path) (action, field.ErrorList) {
	var errs field.ErrorList
	switch {
	case h.HTTPGet != nil:
		path = path.Child("httpGet")
		get := h.HTTPGet.DeepCopy()
		get.Port, errs = resolvePort(app, get.Port, path)
		if get.Path == "" {
			get.Path = "/"
		}
		if get.Scheme == "" {
			get.Scheme = corev1.URISchemeHTTP
		}
		h.HTTPGet = get
		errs = append(errs, checkGet(get, path)...)
	case h.TCPSocket != nil: // of a pod of an older version
		socket := *h.TCPSocket
		socket.Port, errs = resolvePort(app, socket.Port, path.Child("tcpSocket"))
		h.TCPSocket = &socket
	case h.GRPC != nil:
		_, errs = resolvePort(app, intstr.FromInt32(h.GRPC.Port), path.Child("grpc"))
		h.GRPC = h.GRPC.DeepCopy()
	}
	return h, errs
}

// resolvePort turns a port name of the container into its number.
func resolvePort(app appContainer, port intstr.IntOrString, path *field.Path) (intstr.IntOrString, field.ErrorList) {
	path = path.Child("port")
	if port.Type == intstr.String {
		i := slices.IndexFunc(app.Ports, func(p corev1.ContainerPort) bool { return p.Name == port.StrVal })
		if i < 0 || port.StrVal == "" {
			return port, field.ErrorList{field.Invalid(path, port.StrVal, fmt.Sprintf("want the name of a port of container %q, or a number", app.Name))}
		}
		port = intstr.FromInt32(app.Ports[i].ContainerPort)
	}
	if port.IntVal < 1 || port.IntVal > 65535 {
		return port, field.ErrorList{field.Invalid(path, port.IntVal, "want a port from 1 to 65535")}
	}
	if slices.Contains(reservedPorts, port.IntVal) {
		return port, field.ErrorList{reservedPort(path, port.IntVal)}
	}
	return port, nil
}

func checkGet(get *corev1.HTTPGetAction, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	schemes := []corev1.URIScheme{corev1.URISchemeHTTP, corev1.URISchemeHTTPS}
	if !slices.Contains(schemes, get.Scheme) {
		errs = append(errs, field.NotSupported(path.Child("scheme"), get.Scheme, schemes))
	}
	for i, header := range get.HTTPHeaders {
		for _, msg := range validation.IsHTTPHeaderName(header.Name) {
			errs = append(errs, field.Invalid(path.Child("httpHeaders").Index(i).Child("name"), header.Name, msg))
		}
	}
	return errs
}

func (f *forwarder) agentGet(app appContainer, kind appprobe.Kind) *corev1.HTTPGetAction {
	return &corev1.HTTPGetAction{
		Path:        appprobe.Path(app.Name, kind),
		Port:        intstr.FromInt32(config.AgentPort),
		Scheme:      corev1.URISchemeHTTP,
		HTTPHeaders: []corev1.HTTPHeader{{Name: appprobe.KeyHeader, Value: f.key}},
	}
}

func isAgentGet(get *corev1.HTTPGetAction, agentPath string) bool {
	return get != nil && get.Host == "" && get.Port == intstr.FromInt32(config.AgentPort) && get.Path == agentPath
}

func hostOf(h action) string {
	switch {
	case h.HTTPGet != nil:
		return h.HTTPGet.Host
	case h.TCPSocket != nil:
		return h.TCPSocket.Host
	default:
		return ""
	}
}

// portOf returns the port of a handler whose port is resolved.
func portOf(h action) int32 {
	if h.HTTPGet != nil {
		return h.HTTPGet.Port.IntVal
	}
	return h.GRPC.Port
}

func count(conditions ...bool) int {
	n := 0
	for _, c := range conditions {
		if c {
			n++
		}
	}
	return n
}
