package config

import (
	"time"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// Labels and annotations. Keys says what each may hold.
const (
	// LabelInjection turns injection on or off for a namespace. On a pod it overrides the namespace's label.
	LabelInjection = Group + "/injection"

	// LabelRevision names the control plane that injects the pods of a namespace, if it is not the main one.
	LabelRevision = Group + "/revision"

	AnnotationCPURequest           = Group + "/proxy-cpu-request"
	AnnotationCPULimit             = Group + "/proxy-cpu-limit"
	AnnotationMemoryRequest        = Group + "/proxy-memory-request"
	AnnotationMemoryLimit          = Group + "/proxy-memory-limit"
	AnnotationLogLevel             = Group + "/proxy-log-level"
	AnnotationConcurrency          = Group + "/proxy-concurrency"
	AnnotationExcludeInboundPorts  = Group + "/exclude-inbound-ports"
	AnnotationExcludeOutboundPorts = Group + "/exclude-outbound-ports"
	AnnotationExcludeOutboundCIDRs = Group + "/exclude-outbound-cidrs"
	AnnotationDrainDelay           = Group + "/drain-delay"
	AnnotationConfigScope          = Group + "/config-scope"
	AnnotationLogAnswers           = Group + "/log-answers"
	AnnotationImagePullSecrets     = Group + "/proxy-image-pull-secrets"

	// How calls are made. On a Service they apply to all calls to it, on a route to the calls that it routes. With "."
	// and the name of a rule after the key they apply to that rule of the route.
	AnnotationTimeout        = Group + "/timeout"
	AnnotationBackendTimeout = Group + "/backend-timeout"
	AnnotationRetryOn        = Group + "/retry-on"
	AnnotationRetryAttempts  = Group + "/retry-attempts"
	AnnotationRetryBackoff   = Group + "/retry-backoff"

	// How a sidecar treats the endpoints of a Service.
	AnnotationMaxConnections           = Group + "/max-connections"
	AnnotationMaxPendingRequests       = Group + "/max-pending-requests"
	AnnotationMaxRequests              = Group + "/max-requests"
	AnnotationPeerTimeout              = Group + "/peer-timeout"
	AnnotationOutlierConnectFailures   = Group + "/outlier-connect-failures"
	AnnotationOutlierConsecutiveErrors = Group + "/outlier-consecutive-errors"
	AnnotationOutlierInterval          = Group + "/outlier-interval"
	AnnotationOutlierEjectionTime      = Group + "/outlier-ejection-time"
	AnnotationOutlierMaxEjectedPercent = Group + "/outlier-max-ejected-percent"
	AnnotationLoadBalancing            = Group + "/load-balancing"
	AnnotationHashBy                   = Group + "/hash-by"

	// Which connections a pod takes.
	AnnotationMTLS      = Group + "/mtls"
	AnnotationMTLSPorts = Group + "/mtls-ports"

	// AnnotationForwardClientCert lists ports at which the application gets the caller's identity.
	AnnotationForwardClientCert = Group + "/forward-client-cert"

	// AnnotationInjected is written by the injector: the version that injected the pod.
	AnnotationInjected = Group + "/injected"
)

// Values of LabelInjection.
const (
	InjectionEnabled  = "enabled"
	InjectionDisabled = "disabled"
)

// Values of AnnotationConfigScope: which Services a sidecar is sent ahead of the first call.
const (
	ScopeAll       = fixed.ScopeAll
	ScopeNamespace = fixed.ScopeNamespace
	ScopeDemand    = fixed.ScopeDemand
)

// KeyKind says whether a key is a label or an annotation.
type KeyKind string

// The kinds of keys.
const (
	Label      KeyKind = "label"
	Annotation KeyKind = "annotation"
)

// Object is a kind of object that has keys.
type Object string

// The kinds of objects that have keys.
const (
	OnNamespace Object = "namespace"
	OnPod       Object = "pod"
	OnService   Object = "service"
	OnRoute     Object = "route" // HTTPRoute or GRPCRoute
)

// Key is one label or annotation that Mizzen reads or writes.
type Key struct {
	Name string
	Kind KeyKind
	On   []Object
	// Values describes the allowed values, in words that follow "want".
	Values string
	// Default describes the behaviour without the key.
	Default string
	// Doc is one or two sentences for the reference.
	Doc string

	// set stores the value of a namespace's or a pod's annotation in the sidecar's settings, and reports whether the
	// value is allowed. It is nil for keys that set nothing.
	set func(s *Sidecar, value string) bool
	// setCalls does the same for the annotation of a Service or a route.
	setCalls func(c *Calls, value string) bool
	// setPolicy and setOutliers do the same for the annotation of a Service.
	setPolicy   func(p *ServicePolicy, value string) bool
	setOutliers func(o *Outliers, value string) bool
	// setMTLS does the same for the annotation of a namespace or a pod.
	setMTLS func(m *MTLS, value string) bool
}

const ruleDoc = "On a route, `.<rule name>` after the key limits it to that rule."

// Keys is the single table of labels and annotations. Parsing, error messages and docs/reference.md use it. Any other key
// with our prefix is refused (SidecarFor, CheckPodLabels) or reported (CallsOf, ServicePolicyOf).
var Keys = []Key{
	{
		Name: LabelInjection, Kind: Label, On: []Object{OnNamespace, OnPod},
		Values:  `"enabled" or "disabled"`,
		Default: "off for a namespace; a pod follows its namespace",
		Doc:     "Turns the injection of the sidecar on or off. The pod's label overrides the namespace's.",
	},
	{
		Name: LabelRevision, Kind: Label, On: []Object{OnNamespace},
		Values: wantRevision, Default: "the main control plane",
		Doc: "The control plane that injects the namespace's pods: one beside the main one, to try another version or configuration (operations.md). " +
			"If there is none of this name, it is the main one.",
	},
	{
		Name: AnnotationCPURequest, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantCPU, Default: "`sidecar.resources.requests.cpu`",
		Doc: "CPU request of the sidecar.",
		set: setQuantity(requests, "cpu"),
	},
	{
		Name: AnnotationCPULimit, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantCPU + `, or "0" for no limit`, Default: "`sidecar.resources.limits.cpu`",
		Doc: "CPU limit of the sidecar.",
		set: setQuantity(limits, "cpu"),
	},
	{
		Name: AnnotationMemoryRequest, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantMemory, Default: "`sidecar.resources.requests.memory`",
		Doc: "Memory request of the sidecar.",
		set: setQuantity(requests, "memory"),
	},
	{
		Name: AnnotationMemoryLimit, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantMemory + `, or "0" for no limit`, Default: "`sidecar.resources.limits.memory`",
		Doc: "Memory limit of the sidecar.",
		set: setQuantity(limits, "memory"),
	},
	{
		Name: AnnotationLogLevel, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: "trace, debug, info, warning, error, critical or off", Default: "`sidecar.logLevel`",
		Doc: "Log level of Envoy and the agent.",
		set: setLogLevel,
	},
	{
		Name: AnnotationLogAnswers, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: `"true" or "false"`, Default: "`sidecar.logAnswers`",
		Doc: "Logs a line of JSON, with the reason, for each request that the sidecar answers itself (answers.md).",
		set: setLogAnswers,
	},
	{
		Name: AnnotationConcurrency, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantConcurrency, Default: "`sidecar.concurrency`",
		Doc: "Number of Envoy worker threads; 0 means one per CPU of the node.",
		set: setConcurrency,
	},
	{
		Name: AnnotationExcludeInboundPorts, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantPorts, Default: "`sidecar.excludeInboundPorts`",
		Doc: "Inbound TCP ports that are not captured. Replaces the mesh's list; an empty value is an empty list.",
		set: setPorts(func(s *Sidecar) *[]int32 { return &s.ExcludeInboundPorts }),
	},
	{
		Name: AnnotationExcludeOutboundPorts, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantPorts, Default: "`sidecar.excludeOutboundPorts`",
		Doc: "Outbound TCP ports that are not captured. Replaces the mesh's list; an empty value is an empty list.",
		set: setPorts(func(s *Sidecar) *[]int32 { return &s.ExcludeOutboundPorts }),
	},
	{
		Name: AnnotationExcludeOutboundCIDRs, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantCIDRs, Default: "`sidecar.excludeOutboundCIDRs`",
		Doc: "Destinations that are not captured. Replaces the mesh's list; an empty value is an empty list.",
		set: setCIDRs,
	},
	{
		Name: AnnotationDrainDelay, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantDrainDelay, Default: "`sidecar.drainDelay`",
		Doc: "How long SIGTERM to the application's containers is delayed when the pod terminates; 0s turns it off.",
		set: setDrainDelay,
	},
	{
		Name: AnnotationConfigScope, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: "all, namespace or demand", Default: "`sidecar.configScope`, or else `onDemand.wholeMesh` and `onDemand.namespace` decide",
		Doc: "Which Services the sidecar is sent ahead: all, those of its own namespace whatever the namespace's size (namespace), " +
			"or none, so that it gets each Service at the first call (demand).",
		set: setConfigScope,
	},
	{
		Name: AnnotationImagePullSecrets, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantSecrets, Default: "`sidecar.imagePullSecrets`",
		Doc: "Secrets with registry credentials for the sidecar's image. They must exist in the pod's namespace. Injection adds their names to the pod's " +
			"`imagePullSecrets`. Replaces the mesh's list; an empty value is an empty list.",
		set: setPullSecrets,
	},
	{
		Name: AnnotationTimeout, Kind: Annotation, On: []Object{OnService, OnRoute},
		Values: wantCallTimeout, Default: "no timeout",
		Doc:      "Limits a whole call with all its tries. A client's own `grpc-timeout` applies, too; the smaller wins. " + ruleDoc,
		setCalls: setCallTimeout(func(c *Calls) **time.Duration { return &c.Timeout }),
	},
	{
		Name: AnnotationBackendTimeout, Kind: Annotation, On: []Object{OnService, OnRoute},
		Values: wantCallTimeout, Default: "no timeout",
		Doc:      "Limits each try. " + ruleDoc,
		setCalls: setCallTimeout(func(c *Calls) **time.Duration { return &c.BackendTimeout }),
	},
	{
		Name: AnnotationRetryOn, Kind: Annotation, On: []Object{OnService, OnRoute},
		Values: wantRetryOn, Default: "only failures after which no server can have begun",
		Doc: "Answers after which the call is retried at another endpoint. Use it only for calls that may be executed twice. " +
			"On a route, `none` cancels the annotation of the Service. " + ruleDoc,
		setCalls: setRetryOn,
	},
	{
		Name: AnnotationRetryAttempts, Kind: Annotation, On: []Object{OnService, OnRoute},
		Values: wantRetryAttempts, Default: "2 with `retry-on`, else `traffic.retry.attempts`",
		Doc:      "Number of retries. " + ruleDoc,
		setCalls: setRetryAttempts,
	},
	{
		Name: AnnotationRetryBackoff, Kind: Annotation, On: []Object{OnService, OnRoute},
		Values: wantRetryBackoff, Default: "25ms",
		Doc:      "Base of the exponential back-off with jitter before a retry; the maximum is ten times the base. " + ruleDoc,
		setCalls: setRetryBackoff,
	},
	{
		Name: AnnotationMaxConnections, Kind: Annotation, On: []Object{OnService},
		Values: wantLimit, Default: "no limit",
		Doc: "Connections of one sidecar to the Service at the same time. Further TCP connections are closed, and further HTTP requests " +
			"wait for a connection (`max-pending-requests`).",
		setPolicy: setLimit(func(p *ServicePolicy) *uint32 { return &p.MaxConnections }),
	},
	{
		Name: AnnotationMaxPendingRequests, Kind: Annotation, On: []Object{OnService},
		Values: wantLimit, Default: "no limit",
		Doc:       "Requests of one sidecar that wait for a connection to the Service, including one that is just being made. Further requests get 503 (gRPC: UNAVAILABLE).",
		setPolicy: setLimit(func(p *ServicePolicy) *uint32 { return &p.MaxPendingRequests }),
	},
	{
		Name: AnnotationMaxRequests, Kind: Annotation, On: []Object{OnService},
		Values: wantLimit, Default: "no limit",
		Doc:       "Requests of one sidecar to the Service at the same time. Further requests get 503 (gRPC: UNAVAILABLE).",
		setPolicy: setLimit(func(p *ServicePolicy) *uint32 { return &p.MaxRequests }),
	},
	{
		Name: AnnotationPeerTimeout, Kind: Annotation, On: []Object{OnService},
		Values: wantPeerTimeout, Default: "`traffic.peerTimeout`",
		Doc: "How long an endpoint may be unreachable, for example because its node failed, before a sidecar ends its connections to it. " +
			"0s keeps the kernel's defaults.",
		setPolicy: setPeerTimeout,
	},
	{
		Name: AnnotationOutlierConnectFailures, Kind: Annotation, On: []Object{OnService},
		Values: wantConnectFailures, Default: "`traffic.connectFailures`",
		Doc: "After so many failures to connect in a row, a sidecar leaves the endpoint out for 10 s, or for longer if it fails again, but never more than " +
			"half of the endpoints. For opaque TCP 3 are enough. 0 never does.",
		setPolicy: setConnectFailures,
	},
	{
		Name: AnnotationOutlierConsecutiveErrors, Kind: Annotation, On: []Object{OnService},
		Values: wantLimit, Default: "only failures to connect count",
		Doc: "Counts failed answers, too: after so many failures in a row, a sidecar sends no calls to the endpoint for a while. Failures are answers with " +
			"status 5xx, gRPC codes that correspond to 5xx (if no message came before), timeouts of a try, and failures to connect; it replaces `mizzen.dev/outlier-connect-failures`.",
		setOutliers: setOutlierNumber(func(o *Outliers) *uint32 { return &o.ConsecutiveErrors }, maxLimit),
	},
	{
		Name: AnnotationOutlierInterval, Kind: Annotation, On: []Object{OnService},
		Values: wantEjectInterval, Default: "10s",
		Doc:         "How often ejected endpoints are checked for their return.",
		setOutliers: setOutlierDuration(func(o *Outliers) *time.Duration { return &o.Interval }, maxEjectInterval),
	},
	{
		Name: AnnotationOutlierEjectionTime, Kind: Annotation, On: []Object{OnService},
		Values: wantEjectionTime, Default: "30s",
		Doc:         "Duration of the first ejection. Each further ejection in a row is longer by this time, up to 5 minutes or the time itself.",
		setOutliers: setOutlierDuration(func(o *Outliers) *time.Duration { return &o.EjectionTime }, maxEjectionTime),
	},
	{
		Name: AnnotationOutlierMaxEjectedPercent, Kind: Annotation, On: []Object{OnService},
		Values: wantEjected, Default: "50",
		Doc:         "Largest percentage of the endpoints that are ejected at the same time, rounded down.",
		setOutliers: setOutlierNumber(func(o *Outliers) *uint32 { return &o.MaxEjectedPercent }, maxEjected),
	},
	{
		Name: AnnotationLoadBalancing, Kind: Annotation, On: []Object{OnService},
		Values: wantLoadBalancing, Default: "least-request; maglev by source-ip if the Service has `sessionAffinity: ClientIP`",
		Doc: "How sidecars choose an endpoint. ring-hash and maglev send calls with the same hash (`hash-by`) to the same endpoint, and move few of them when " +
			"endpoints change.",
		setPolicy: setLoadBalancing,
	},
	{
		Name: AnnotationHashBy, Kind: Annotation, On: []Object{OnService},
		Values: wantHashBy, Default: "source-ip",
		Doc: "What ring-hash and maglev hash. source-ip is the calling pod. If a request lacks the cookie, the sidecar sets one, for the client's session or " +
			"with the lifetime. Opaque TCP is always hashed by source-ip.",
		setPolicy: setHashBy,
	},
	{
		Name: AnnotationMTLS, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantMTLSMode, Default: "the mode of the mesh; a pod without it follows its namespace",
		Doc: "Which connections a pod accepts: strict accepts only mTLS of the mesh, permissive also plain text and the application's own " +
			"TLS. The pod's annotation overrides the namespace's, and that overrides the mesh's mode.",
		setMTLS: setMTLSMode,
	},
	{
		Name: AnnotationMTLSPorts, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantMTLSPorts, Default: "the mode of the pod",
		Doc: "The mode of single ports of a pod, by the number on which the container listens. A pod with this annotation or with " +
			"`mizzen.dev/mtls` ignores this annotation of its namespace.",
		setMTLS: setMTLSPorts,
	},
	{
		Name: AnnotationForwardClientCert, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantPorts, Default: "the header passes unchanged",
		Doc: "Ports, by the number on which the container listens, at which the application finds the caller's identity in the header " +
			"`X-Forwarded-Client-Cert`. The sidecar removes this header from the caller's own request. These ports must speak HTTP.",
		setMTLS: setForwardClientCert,
	},
	{
		Name: AnnotationInjected, Kind: Annotation, On: []Object{OnPod},
		Values:  "the version of the injector",
		Default: "nothing",
		Doc:     "Written by injection, for people. Mizzen itself recognizes a pod with a sidecar by its containers.",
	},
}
