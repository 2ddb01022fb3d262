package config

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// APIVersion and Kind of the mesh configuration file.
const (
	APIVersion = Group + "/v1alpha1"
	Kind       = "MeshConfig"
)

// Mesh is the configuration of the whole mesh, read from one YAML file. The zero value of a field
// means "use the default" (Default); every field can be left out.
type Mesh struct {
	metav1.TypeMeta `json:",inline"`

	// ClusterDomain is the DNS domain of the cluster, without a leading dot. Default "cluster.local".
	ClusterDomain string `json:"clusterDomain,omitempty"`
	// ControlPlaneAddress is the host:port at which sidecars reach the ADS server.
	// Default "mizzen-controller.mizzen-system.svc.<clusterDomain>:15010".
	ControlPlaneAddress string `json:"controlPlaneAddress,omitempty"`
	// ServiceCIDRs are the ranges of Service addresses, used where the cluster has no ServiceCIDR
	// objects (Kubernetes before 1.33). Default: none.
	ServiceCIDRs []string `json:"serviceCIDRs,omitempty"`

	// TrustDomain is the name under which the mesh gives identities: spiffe://<trustDomain>/ns/<namespace>/sa/<service
	// account>. To change it is to change every identity. Default "cluster.local".
	TrustDomain string `json:"trustDomain,omitempty"`

	Identity  Identity  `json:"identity,omitempty"`
	MTLS      MeshMTLS  `json:"mtls,omitempty"`
	Detection Detection `json:"protocolDetection,omitempty"`
	Traffic   Traffic   `json:"traffic,omitempty"`
	OnDemand  OnDemand  `json:"onDemand,omitempty"`
	Sidecar   Sidecar   `json:"sidecar,omitempty"`
	CNI       CNI       `json:"cni,omitzero"`
}

// CNI says who writes the capture rules of a pod.
type CNI struct {
	// Enabled leaves it to the CNI plugin of each node, so that pods need no init container with NET_ADMIN. The chart's
	// cni.enabled sets it together with the plugin and the webhook's path, which is what counts at admission. Default false.
	Enabled bool `json:"enabled,omitempty"`
}

// Identity says how sidecars get their certificates.
type Identity struct {
	// Enabled gives sidecars certificates: calls between them are mTLS, and they reach the control plane with theirs
	// only. Default true.
	Enabled *bool `json:"enabled,omitempty"`
	// CertificateLifetime of a sidecar; it is renewed after half to 70 % of it. At least 2m, and at most a
	// third of CALifetime. Default 24h.
	CertificateLifetime *metav1.Duration `json:"certificateLifetime,omitempty"`
	// CALifetime of a root that the control plane makes itself; the next one is made when a third of it is
	// left. At most 876000h (100 years). Default 87600h (10 years).
	CALifetime *metav1.Duration `json:"caLifetime,omitempty"`
	// CASettle is how long a new root is trusted before it signs, ten times as long while a sidecar has not
	// got it, or a pod is starting that was made before. At least 1s and at most a sixth of CALifetime. Default 10m.
	CASettle *metav1.Duration `json:"caSettle,omitempty"`
	// CheckSourceAddress refuses a certificate to a request that does not come from the pod's own address.
	// Turn it off where the network gives pods other addresses on the way to the control plane. Default true.
	CheckSourceAddress *bool `json:"checkSourceAddress,omitempty"`
}

// MeshMTLS is mTLS between the pods of the mesh.
type MeshMTLS struct {
	// Mode says which connections a pod takes where neither it nor its namespace says anything: mTLS of the mesh
	// alone (strict), or plain text beside it (permissive). Default permissive.
	Mode MTLSMode `json:"mode,omitempty"`

	// DrainTime is how long a connection lives that is not to live any more: one in plain text when strict comes, or of a caller
	// whom policies refuse from now on, also where nothing is said on it. HTTP that was judged by policies that have changed has
	// as long from the answer in which the server's sidecar tells it to go (connection: close, GOAWAY). Calls that are
	// under way then end as they are. From 2s to 1h. Default 10s.
	DrainTime *metav1.Duration `json:"drainTime,omitempty"`

	// TrustDomain is that of the SPIFFE IDs of the mesh, such as "cluster.local"; empty where sidecars have no
	// identities, and no mTLS. It follows from other fields of the file.
	TrustDomain string `json:"-"`
}

// Detection says how a port without a declared protocol is treated.
type Detection struct {
	// Timeout is how long Envoy waits for a client's first bytes before it treats the connection as
	// opaque TCP. Default 1s.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// OpaquePorts are Service ports of server-first protocols, never inspected; an empty list is
	// none. Default: see DefaultOpaquePorts.
	OpaquePorts []int32 `json:"opaquePorts,omitempty"`
}

// Traffic holds the defaults for calls between Services.
type Traffic struct {
	// ConnectTimeout bounds one connection attempt to an endpoint. Default 5s.
	ConnectTimeout *metav1.Duration `json:"connectTimeout,omitempty"`
	// PeerTimeout is how long a peer of a connection may be gone without a word, as when its node fails, before the
	// connection ends: TCP keepalive of all connections of sidecars, and TCP_USER_TIMEOUT of those that carry HTTP calls.
	// From 3s to 24h; 0s leaves the kernel's own. Default 12s.
	PeerTimeout *metav1.Duration `json:"peerTimeout,omitempty"`
	// Retry is used for calls of which nothing can have executed. See Envoy's
	// "x-envoy-retry-on": connect-failure, refused-stream, reset-before-request.
	Retry Retry `json:"retry,omitempty"`
	// RouteRetry bounds the retries that routes and annotations ask for.
	RouteRetry RetryBudget `json:"routeRetry,omitempty"`
}

// RetryBudget bounds retries of calls that a server may have seen. They put load on a Service that
// may fail because of its load, so the budget is narrow.
type RetryBudget struct {
	// BudgetPercent is how many retries there may be at a time for 100 active calls to one Service, of those
	// that may be retried so, 1 to 100. Default 20.
	BudgetPercent *int32 `json:"budgetPercent,omitempty"`
	// MinConcurrent retries are always allowed. Default 3.
	MinConcurrent *int32 `json:"minConcurrent,omitempty"`
}

// Retry bounds retries of calls that no server has seen. Unlike retries of failed calls they put no
// load on a Service, so the budget is wide: after a crash most calls may need one, because the least
// loaded endpoint is the one that refuses, and while it backs off its request is not an active one.
type Retry struct {
	// Attempts is the number of tries after the first, 0 to 10. Default 4.
	Attempts *int32 `json:"attempts,omitempty"`
	// BudgetPercent is the share of active requests to one Service that may be retries, in percent,
	// 1 to 100. Default 100.
	BudgetPercent *int32 `json:"budgetPercent,omitempty"`
	// MinConcurrent retries are always allowed. Default 100.
	MinConcurrent *int32 `json:"minConcurrent,omitempty"`
}

// OnDemand says which Services a sidecar is sent ahead; it asks for any other at the application's first
// call. A Service port is one port of a Service at one address, so a dual-stack Service counts twice.
type OnDemand struct {
	// Timeout is how long a first call to a Service never used before waits for its configuration, as
	// while the control plane is away, before it is answered with an error. 1s to 5m. Default 10s.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// WholeMesh is the number of Service ports in the cluster (each address of a Service counts its
	// ports) up to which every sidecar is sent the whole mesh ahead; 0 is never. 0 to 50000. Default 100.
	WholeMesh *int32 `json:"wholeMesh,omitempty"`
	// Namespace is, in a cluster beyond WholeMesh, the number of Service ports in the sidecar's own
	// namespace up to which that namespace is sent ahead; 0 is never. 0 to 50000. Default 50.
	Namespace *int32 `json:"namespace,omitempty"`
}

// Sidecar is what injection puts into a pod. Where an annotation of keys.go names the same setting, that of
// the pod's namespace wins over this, and that of the pod over both.
type Sidecar struct {
	// Image of the proxy, also used for the capture init container. No default; needed to inject.
	Image string `json:"image,omitempty"`
	// ImagePullPolicy is Always, IfNotPresent or Never. Default: Kubernetes' own.
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// ImagePullSecrets are names of Secrets with the registry's credentials. Injection adds them to each pod's
	// imagePullSecrets; the Secrets have to be in the pods' namespaces. Default: none.
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`
	// Resources of the proxy container. Default: requests of 50m CPU and 64Mi memory, no limits.
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	// LogLevel of Envoy and the agent: trace, debug, info, warning, error, critical or off. Default "warning".
	LogLevel string `json:"logLevel,omitempty"`
	// Concurrency is the number of Envoy worker threads; 0 is one per CPU of the node. Default 2.
	Concurrency *int32 `json:"concurrency,omitempty"`
	// ExcludeInboundPorts and ExcludeOutboundPorts are TCP ports that are not captured.
	ExcludeInboundPorts  []int32 `json:"excludeInboundPorts,omitempty"`
	ExcludeOutboundPorts []int32 `json:"excludeOutboundPorts,omitempty"`
	// ExcludeOutboundCIDRs are destinations that are not captured.
	ExcludeOutboundCIDRs []string `json:"excludeOutboundCIDRs,omitempty"`
	// DrainDelay is how long the application's containers get no SIGTERM after a pod's termination
	// began, so that callers have stopped choosing the pod first. Given as a preStop sleep to
	// containers that have no preStop hook of their own. Whole seconds, 0 turns it off. Default 3s.
	// Where a controller of Kubernetes makes the pod, its grace period becomes longer by as much.
	DrainDelay *metav1.Duration `json:"drainDelay,omitempty"`
	// ConfigScope is which Services a sidecar is sent ahead of the first call: all, its own namespace
	// whatever its size (namespace), or none (demand). Default: empty, automatic by onDemand.wholeMesh
	// and onDemand.namespace.
	ConfigScope string `json:"configScope,omitempty"`
	// LogAnswers writes a line of JSON to the sidecar's log for each request that the sidecar answered itself, with
	// the reason. Default false.
	LogAnswers bool `json:"logAnswers,omitempty"`
}
