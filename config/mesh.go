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
// means its default (Default), so every field can be left out.
type Mesh struct {
	metav1.TypeMeta `json:",inline"`

	// ClusterDomain is the DNS domain of the cluster, without a leading dot. Default "cluster.local".
	ClusterDomain string `json:"clusterDomain,omitempty"`
	// ControlPlaneAddress is the host:port at which sidecars reach the ADS server.
	// Default "mizzen-controller.mizzen-system.svc.<clusterDomain>:15010".
	ControlPlaneAddress string `json:"controlPlaneAddress,omitempty"`
	// Revision is the name of this control plane, if it is not the mesh's main one. A revision injects the pods of the
	// namespaces with the label mizzen.dev/revision=<name>, and serves their sidecars. All else, such as statuses, Gateways
	// and the CA, is the main one's. A DNS label of at most 32 characters. Default: none.
	Revision string `json:"revision,omitempty"`
	// ServiceCIDRs are the ranges of Service addresses, used if the cluster has no ServiceCIDR
	// objects (Kubernetes before 1.33). Default: none.
	ServiceCIDRs []string `json:"serviceCIDRs,omitempty"`

	// TrustDomain is the SPIFFE trust domain of all identities: spiffe://<trustDomain>/ns/<namespace>/sa/<service
	// account>. Changing it changes every identity. Default "cluster.local".
	TrustDomain string `json:"trustDomain,omitempty"`

	Identity  Identity  `json:"identity,omitempty"`
	MTLS      MeshMTLS  `json:"mtls,omitempty"`
	Detection Detection `json:"protocolDetection,omitempty"`
	Traffic   Traffic   `json:"traffic,omitempty"`
	OnDemand  OnDemand  `json:"onDemand,omitempty"`
	Sidecar   Sidecar   `json:"sidecar,omitempty"`
	CNI       CNI       `json:"cni,omitzero"`
	Gateways  Gateways  `json:"gateway,omitempty"`
}

// CNI says whether the node or an init container writes a pod's capture rules.
type CNI struct {
	// Enabled makes each node's CNI plugin write the capture rules, so that pods need no init container with NET_ADMIN.
	// The chart's cni.enabled sets this field together with the plugin and the webhook's path; at admission, the path
	// decides. Default false.
	Enabled bool `json:"enabled,omitempty"`
}

// Identity says how sidecars get their certificates.
type Identity struct {
	// Enabled gives sidecars certificates. Calls between sidecars then use mTLS, and a sidecar needs its certificate to
	// reach the control plane. Default true.
	Enabled *bool `json:"enabled,omitempty"`
	// CertificateLifetime is the lifetime of a sidecar's certificate, which is renewed after 50 to 70 % of it. At least 2m,
	// and at most a third of CALifetime. Default 24h.
	CertificateLifetime *metav1.Duration `json:"certificateLifetime,omitempty"`
	// CALifetime is the lifetime of a root that the control plane makes itself. The next root is made when a third of the
	// lifetime is left. At most 876000h (100 years). Default 87600h (10 years).
	CALifetime *metav1.Duration `json:"caLifetime,omitempty"`
	// CASettle is how long a new root is trusted before it signs. It waits up to ten times as long while a connected
	// sidecar, or a starting pod that was injected earlier, lacks the new root. At least 1s and at most a sixth of CALifetime. Default 10m.
	CASettle *metav1.Duration `json:"caSettle,omitempty"`
	// CheckSourceAddress refuses certificate requests that do not come from the pod's own address. Turn it off if the
	// network translates pods' addresses on the way to the control plane. Default true.
	CheckSourceAddress *bool `json:"checkSourceAddress,omitempty"`
}

// MeshMTLS is mTLS between the pods of the mesh.
type MeshMTLS struct {
	// Mode is the mode of pods without a mode of their own or of their namespace: strict accepts only mTLS of the mesh,
	// permissive also plain text. Default permissive.
	Mode MTLSMode `json:"mode,omitempty"`

	// DrainTime is how long open connections last after strict mode or a changed policy refuses them, even if they are
	// silent. If the policies that allowed an HTTP connection change, the server's sidecar asks the caller to close it with
	// the next answer (connection: close, GOAWAY), and the connection lasts for this time from that answer. Calls that are
	// under way then still finish. From 2s to 1h. Default 10s.
	DrainTime *metav1.Duration `json:"drainTime,omitempty"`

	// TrustDomain is the trust domain of the mesh's SPIFFE IDs, such as "cluster.local". It is empty if sidecars have no
	// identities, and thus no mTLS. It follows from other fields of the file.
	TrustDomain string `json:"-"`
}

// Detection says how a port without a declared protocol is treated.
type Detection struct {
	// Timeout is how long Envoy waits for a client's first bytes before it treats the connection as
	// opaque TCP. Default 1s.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// OpaquePorts are Service ports without detection: their protocols are server-first, or never HTTP. An empty list
	// means none. Default: see DefaultOpaquePorts.
	OpaquePorts []int32 `json:"opaquePorts,omitempty"`
}

// Traffic holds the defaults for calls between Services.
type Traffic struct {
	// ConnectTimeout is the timeout of one attempt to connect to an endpoint. Default 5s.
	ConnectTimeout *metav1.Duration `json:"connectTimeout,omitempty"`
	// PeerTimeout is how long a peer may be unreachable, for example because its node failed, before the connection ends.
	// It sets TCP keepalive for all connections of sidecars, and TCP_USER_TIMEOUT for those that carry HTTP calls.
	// From 3s to 24h; 0s keeps the kernel's defaults. Default 12s.
	PeerTimeout *metav1.Duration `json:"peerTimeout,omitempty"`
	// ConnectFailures is the number of failures to connect in a row after which a sidecar leaves an endpoint out for 10s,
	// from 0 to 1000000; 0 means never. See ServicePolicy.ConnectFailures. Default 5.
	ConnectFailures *int32 `json:"connectFailures,omitempty"`
	// Retry bounds retries of calls that no server can have begun. See Envoy's
	// "x-envoy-retry-on": connect-failure, refused-stream, reset-before-request.
	Retry Retry `json:"retry,omitempty"`
	// RouteRetry bounds the retries that routes and annotations ask for.
	RouteRetry RetryBudget `json:"routeRetry,omitempty"`
}

// RetryBudget bounds retries of calls that a server may have begun. The Service may have failed because of its load, and
// retries add to it, so the budget is small.
type RetryBudget struct {
	// BudgetPercent bounds the retries at a time, as a percentage of the active calls to the Service that ask for retries,
	// 1 to 100. Default 20.
	BudgetPercent *int32 `json:"budgetPercent,omitempty"`
	// MinConcurrent is the number of retries at a time that are always allowed. Default 3.
	MinConcurrent *int32 `json:"minConcurrent,omitempty"`
}

// Retry bounds retries of calls that no server can have begun. These retries put no load on a Service, so the budget is
// large. After a crash most calls may need one, because the endpoint that refuses them has the fewest active requests, and
// because a request is not active during its back-off. All calls that wait for one connection fail with it.
type Retry struct {
	// Attempts is the number of retries of a call, 0 to 10. Default 4.
	Attempts *int32 `json:"attempts,omitempty"`
	// BudgetPercent bounds the retries at a time, as a percentage of the active requests to the Service, 1 to 100.
	// Default 100.
	BudgetPercent *int32 `json:"budgetPercent,omitempty"`
	// MinConcurrent is the number of retries at a time that are always allowed. Default 10000.
	MinConcurrent *int32 `json:"minConcurrent,omitempty"`
}

// OnDemand says which Services a sidecar is sent ahead. It asks for any other Service at the application's first call. A
// Service port is one port of a Service at one address, so the ports of a dual-stack Service count twice.
type OnDemand struct {
	// Timeout is how long the first call to a Service waits for configuration, for example while the control plane is
	// unreachable, before it fails. From 1s to 5m. Default 10s.
	Timeout *metav1.Duration `json:"timeout,omitempty"`
	// WholeMesh is the largest number of Service ports in the cluster with which every sidecar is sent the whole mesh
	// ahead; 0 means never. A port counts once for each address of its Service. From 0 to 50000. Default 100.
	WholeMesh *int32 `json:"wholeMesh,omitempty"`
	// Namespace is the largest number of Service ports in a namespace with which, in a cluster beyond WholeMesh, a sidecar
	// is sent its own namespace ahead; 0 means never. From 0 to 50000. Default 50.
	Namespace *int32 `json:"namespace,omitempty"`
}

// Sidecar are the settings of injected sidecars. An annotation of the pod's namespace (keys.go) overrides the same setting
// here, and an annotation of the pod overrides both.
type Sidecar struct {
	// Image of the sidecar and of the capture init container. Required for injection; there is no default.
	Image string `json:"image,omitempty"`
	// ImagePullPolicy is Always, IfNotPresent or Never. Default: the default of Kubernetes.
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// ImagePullSecrets are names of Secrets with the registry's credentials. Injection adds them to each pod's
	// imagePullSecrets. The Secrets must exist in the pods' namespaces. Default: none.
	ImagePullSecrets []string `json:"imagePullSecrets,omitempty"`
	// Resources of the proxy container. Default: requests of 50m CPU and 64Mi memory, no limits.
	Resources corev1.ResourceRequirements `json:"resources,omitempty"`
	// LogLevel of Envoy and the agent: trace, debug, info, warning, error, critical or off. Default "warning".
	LogLevel string `json:"logLevel,omitempty"`
	// Concurrency is the number of Envoy worker threads; 0 means one per CPU of the node. Default 2.
	Concurrency *int32 `json:"concurrency,omitempty"`
	// ExcludeInboundPorts and ExcludeOutboundPorts are TCP ports that are not captured.
	ExcludeInboundPorts  []int32 `json:"excludeInboundPorts,omitempty"`
	ExcludeOutboundPorts []int32 `json:"excludeOutboundPorts,omitempty"`
	// ExcludeOutboundCIDRs are destinations that are not captured.
	ExcludeOutboundCIDRs []string `json:"excludeOutboundCIDRs,omitempty"`
	// DrainDelay is how long SIGTERM to the application's containers is delayed when their pod terminates, so that callers
	// stop choosing the pod first. Injection adds a preStop hook that sleeps to containers without a preStop hook of their
	// own. Whole seconds; 0 turns it off. Default 3s. If a controller of Kubernetes makes the pod, injection lengthens the
	// pod's grace period by the same time.
	DrainDelay *metav1.Duration `json:"drainDelay,omitempty"`
	// ConfigScope says which Services a sidecar is sent ahead: all, those of its own namespace whatever the namespace's
	// size (namespace), or none (demand). Default: empty, so that onDemand.wholeMesh and onDemand.namespace decide.
	ConfigScope string `json:"configScope,omitempty"`
	// LogAnswers logs a line of JSON, with the reason, for each request that the sidecar answers itself. Default false.
	LogAnswers bool `json:"logAnswers,omitempty"`
}
