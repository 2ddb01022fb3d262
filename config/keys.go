package config

import "time"

// Labels and annotations. Keys says what each may hold.
const (
	// LabelInjection on a namespace ("enabled") turns injection on; on a pod ("enabled" or
	// "disabled") it overrides the namespace for that pod.
	LabelInjection = Group + "/injection"

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

	// How calls are made: on a Service for all of its calls, on a route for those it routes, and with
	// "." and the name of a rule behind it for that rule of the route.
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
	AnnotationOutlierConsecutiveErrors = Group + "/outlier-consecutive-errors"
	AnnotationOutlierInterval          = Group + "/outlier-interval"
	AnnotationOutlierEjectionTime      = Group + "/outlier-ejection-time"
	AnnotationOutlierMaxEjectedPercent = Group + "/outlier-max-ejected-percent"
	AnnotationLoadBalancing            = Group + "/load-balancing"
	AnnotationHashBy                   = Group + "/hash-by"

	// Which connections a pod takes.
	AnnotationMTLS      = Group + "/mtls"
	AnnotationMTLSPorts = Group + "/mtls-ports"

	// AnnotationForwardClientCert is who calls, for the application.
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
	ScopeAll       = "all"       // every Service
	ScopeNamespace = "namespace" // those of its own namespace, whatever its size
	ScopeDemand    = "demand"    // none
)

// KeyKind is where in the metadata a key stands.
type KeyKind string

// The kinds of keys.
const (
	Label      KeyKind = "label"
	Annotation KeyKind = "annotation"
)

// Object is what a key stands on.
type Object string

// The objects that carry keys.
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
	// Values says what is allowed, in words that follow "want".
	Values string
	// Default is what holds without the key.
	Default string
	// Doc is one or two sentences for the reference.
	Doc string

	// set puts the value of a namespace's or a pod's annotation into the sidecar and says whether the value is allowed.
	// It is nil for keys that set nothing.
	set func(s *Sidecar, value string) bool
	// setCalls does the same for the annotation of a Service or a route.
	setCalls func(c *Calls, value string) bool
	// setPolicy and setOutliers do the same for the annotation of a Service.
	setPolicy   func(p *ServicePolicy, value string) bool
	setOutliers func(o *Outliers, value string) bool
	// setMTLS does the same for the annotation of a namespace or a pod.
	setMTLS func(m *MTLS, value string) bool
}

const ruleDoc = "On a route, `.<rule name>` behind the key means that rule alone."

// Keys is the one table of labels and annotations: parsing, error messages and docs/reference.md all
// come from it. A key with our prefix that is not here is refused (SidecarFor, CheckPodLabels) or reported
// (CallsOf, ServicePolicyOf).
var Keys = []Key{
	{
		Name: LabelInjection, Kind: Label, On: []Object{OnNamespace, OnPod},
		Values:  `"enabled" or "disabled"`,
		Default: "a namespace without it is not injected, a pod without it follows its namespace",
		Doc:     "Turns the injection of the sidecar on or off. The pod's label wins over the namespace's.",
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
		Doc: "Writes a line of JSON to the sidecar's log for each request that the sidecar answered itself, with the reason (answers.md).",
		set: setLogAnswers,
	},
	{
		Name: AnnotationConcurrency, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantConcurrency, Default: "`sidecar.concurrency`",
		Doc: "Number of Envoy worker threads; 0 is one per CPU of the node.",
		set: setConcurrency,
	},
	{
		Name: AnnotationExcludeInboundPorts, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantPorts, Default: "`sidecar.excludeInboundPorts`",
		Doc: "Inbound TCP ports that are not captured; replaces the mesh's list. An empty value is an empty list.",
		set: setPorts(func(s *Sidecar) *[]int32 { return &s.ExcludeInboundPorts }),
	},
	{
		Name: AnnotationExcludeOutboundPorts, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantPorts, Default: "`sidecar.excludeOutboundPorts`",
		Doc: "Outbound TCP ports that are not captured; replaces the mesh's list. An empty value is an empty list.",
		set: setPorts(func(s *Sidecar) *[]int32 { return &s.ExcludeOutboundPorts }),
	},
	{
		Name: AnnotationExcludeOutboundCIDRs, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantCIDRs, Default: "`sidecar.excludeOutboundCIDRs`",
		Doc: "Destinations that are not captured; replaces the mesh's list. An empty value is an empty list.",
		set: setCIDRs,
	},
	{
		Name: AnnotationDrainDelay, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantDrainDelay, Default: "`sidecar.drainDelay`",
		Doc: "How long the application's containers get no SIGTERM after the pod's termination began; 0s turns it off.",
		set: setDrainDelay,
	},
	{
		Name: AnnotationConfigScope, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: "all, namespace or demand", Default: "`sidecar.configScope`, or else automatic by `onDemand.wholeMesh` and `onDemand.namespace`",
		Doc: "Which Services the sidecar is sent ahead: every one (all), those of its own namespace whatever its size (namespace), " +
			"or none, each Service at the first call (demand).",
		set: setConfigScope,
	},
	{
		Name: AnnotationImagePullSecrets, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantSecrets, Default: "`sidecar.imagePullSecrets`",
		Doc: "Secrets with the credentials of the registry that has the sidecar's image, in the pod's namespace. Injection adds them to the pod's " +
			"`imagePullSecrets`; it makes no Secret. Replaces the mesh's list. An empty value is an empty list.",
		set: setPullSecrets,
	},
	{
		Name: AnnotationTimeout, Kind: Annotation, On: []Object{OnService, OnRoute},
		Values: wantCallTimeout, Default: "no timeout",
		Doc:      "Bounds a whole call with all its tries. A client's own `grpc-timeout` holds too; the smaller wins. " + ruleDoc,
		setCalls: setCallTimeout(func(c *Calls) **time.Duration { return &c.Timeout }),
	},
	{
		Name: AnnotationBackendTimeout, Kind: Annotation, On: []Object{OnService, OnRoute},
		Values: wantCallTimeout, Default: "no timeout",
		Doc:      "Bounds each try. " + ruleDoc,
		setCalls: setCallTimeout(func(c *Calls) **time.Duration { return &c.BackendTimeout }),
	},
	{
		Name: AnnotationRetryOn, Kind: Annotation, On: []Object{OnService, OnRoute},
		Values: wantRetryOn, Default: "only failures in which no server can have begun",
		Doc: "The answers after which a call is made again at another endpoint. Only for calls that may be executed twice; " +
			"`none` takes back what the Service says. " + ruleDoc,
		setCalls: setRetryOn,
	},
	{
		Name: AnnotationRetryAttempts, Kind: Annotation, On: []Object{OnService, OnRoute},
		Values: wantRetryAttempts, Default: "2 with `retry-on`, else `traffic.retry.attempts`",
		Doc:      "Tries after the first. " + ruleDoc,
		setCalls: setRetryAttempts,
	},
	{
		Name: AnnotationRetryBackoff, Kind: Annotation, On: []Object{OnService, OnRoute},
		Values: wantRetryBackoff, Default: "25ms",
		Doc:      "The base of the jittered exponential back-off before another try; the most is ten times it. " + ruleDoc,
		setCalls: setRetryBackoff,
	},
	{
		Name: AnnotationMaxConnections, Kind: Annotation, On: []Object{OnService},
		Values: wantLimit, Default: "no limit",
		Doc: "Connections that one sidecar has to the Service at the same time. Further TCP connections are closed, further HTTP requests " +
			"wait for a connection (`max-pending-requests`).",
		setPolicy: setLimit(func(p *ServicePolicy) *uint32 { return &p.MaxConnections }),
	},
	{
		Name: AnnotationMaxPendingRequests, Kind: Annotation, On: []Object{OnService},
		Values: wantLimit, Default: "no limit",
		Doc:       "Requests of one sidecar that wait for a connection to the Service, be it only until it is made. Further ones are answered with 503 (gRPC: UNAVAILABLE).",
		setPolicy: setLimit(func(p *ServicePolicy) *uint32 { return &p.MaxPendingRequests }),
	},
	{
		Name: AnnotationMaxRequests, Kind: Annotation, On: []Object{OnService},
		Values: wantLimit, Default: "no limit",
		Doc:       "Requests that one sidecar has at the Service at the same time. Further ones are answered with 503 (gRPC: UNAVAILABLE).",
		setPolicy: setLimit(func(p *ServicePolicy) *uint32 { return &p.MaxRequests }),
	},
	{
		Name: AnnotationPeerTimeout, Kind: Annotation, On: []Object{OnService},
		Values: wantPeerTimeout, Default: "`traffic.peerTimeout`",
		Doc: "How long an endpoint may be gone without a word, as when its node fails, before a sidecar ends its connections to it. " +
			"0s leaves the kernel's own.",
		setPolicy: setPeerTimeout,
	},
	{
		Name: AnnotationOutlierConsecutiveErrors, Kind: Annotation, On: []Object{OnService},
		Values: wantLimit, Default: "endpoints are never ejected",
		Doc: "Turns outlier detection on: an endpoint gets no calls of a sidecar for a while after so many failures in a row, which are answers with " +
			"status 5xx, gRPC codes that stand for them (where no message came before), timeouts of a try, and failures to connect.",
		setOutliers: setOutlierNumber(func(o *Outliers) *uint32 { return &o.ConsecutiveErrors }, maxLimit),
	},
	{
		Name: AnnotationOutlierInterval, Kind: Annotation, On: []Object{OnService},
		Values: wantEjectInterval, Default: "10s",
		Doc:         "How often ejected endpoints are looked at, to take back those whose time is over.",
		setOutliers: setOutlierDuration(func(o *Outliers) *time.Duration { return &o.Interval }, maxEjectInterval),
	},
	{
		Name: AnnotationOutlierEjectionTime, Kind: Annotation, On: []Object{OnService},
		Values: wantEjectionTime, Default: "30s",
		Doc:         "How long an endpoint is ejected the first time; each further time in a row is longer by it, up to 5 minutes or the time itself.",
		setOutliers: setOutlierDuration(func(o *Outliers) *time.Duration { return &o.EjectionTime }, maxEjectionTime),
	},
	{
		Name: AnnotationOutlierMaxEjectedPercent, Kind: Annotation, On: []Object{OnService},
		Values: wantEjected, Default: "50",
		Doc:         "Percentage of the endpoints that may be ejected at the same time, rounded down.",
		setOutliers: setOutlierNumber(func(o *Outliers) *uint32 { return &o.MaxEjectedPercent }, maxEjected),
	},
	{
		Name: AnnotationLoadBalancing, Kind: Annotation, On: []Object{OnService},
		Values: wantLoadBalancing, Default: "least-request; with `sessionAffinity: ClientIP` maglev by source-ip",
		Doc: "How an endpoint is chosen. ring-hash and maglev send calls with the same hash (`hash-by`) to the same endpoint, and move few of them when " +
			"endpoints come and go.",
		setPolicy: setLoadBalancing,
	},
	{
		Name: AnnotationHashBy, Kind: Annotation, On: []Object{OnService},
		Values: wantHashBy, Default: "source-ip",
		Doc: "What ring-hash and maglev hash. source-ip is the calling pod. A cookie is made where a request has none, for the client's session or " +
			"with the lifetime. Opaque TCP is always hashed by source-ip.",
		setPolicy: setHashBy,
	},
	{
		Name: AnnotationMTLS, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantMTLSMode, Default: "the mode of the mesh; a pod without it follows its namespace",
		Doc: "Which connections a pod takes: those with mTLS of the mesh alone (strict), or plain text and the application's own TLS " +
			"beside them (permissive). The pod's annotation wins over the namespace's, and that over the mesh's.",
		setMTLS: setMTLSMode,
	},
	{
		Name: AnnotationMTLSPorts, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantMTLSPorts, Default: "the mode of the pod",
		Doc: "The mode of single ports of a pod, by the number that the container listens on. A pod with this annotation or with " +
			"`mizzen.dev/mtls` does not follow the ports of its namespace.",
		setMTLS: setMTLSPorts,
	},
	{
		Name: AnnotationForwardClientCert, Kind: Annotation, On: []Object{OnNamespace, OnPod},
		Values: wantPorts, Default: "the header is passed on as it came",
		Doc: "Ports, by the number that the container listens on, at which the application finds the caller's identity in the header " +
			"`X-Forwarded-Client-Cert`. What a caller sends in it is removed. These ports are taken for HTTP.",
		setMTLS: setForwardClientCert,
	},
	{
		Name: AnnotationInjected, Kind: Annotation, On: []Object{OnPod},
		Values:  "the version of the injector",
		Default: "nothing",
		Doc:     "Written by the injector, for people to read. Whether a pod has a sidecar follows from its containers.",
	},
}
