package config

import (
	"net"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DefaultOpaquePorts are Service ports without protocol detection. For detection Envoy waits for the client's first
// bytes. If the server speaks first, every connection would stall for the detection timeout, and so would idle
// connections that a client's pool opens ahead. TLS variants (465, 993, 995 …) are missing on purpose, because there
// the client speaks first.
var DefaultOpaquePorts = []int32{
	21,    // FTP: the server greets with 220
	22,    // SSH: both sides send a banner, many clients only after the server's
	25,    // SMTP: the server greets with 220
	110,   // POP3: the server greets with +OK
	119,   // NNTP: the server greets with 200
	143,   // IMAP: the server greets with * OK
	587,   // SMTP submission: as 25, TLS only after STARTTLS
	2375,  // Docker: exec and attach take the connection over before the daemon has answered
	3128,  // HTTP proxies (Squid): they need request targets as they were sent
	3306,  // MySQL and MariaDB: the server sends the handshake
	4222,  // NATS: the server sends INFO
	4444,  // Galera state transfer: raw streams in either direction
	5432,  // PostgreSQL: the client begins, but TLS starts only after the server's one-byte answer
	5900,  // VNC: the server sends its version
	6379,  // Redis: never HTTP, and pools open connections long before the first command
	9300,  // Elasticsearch transport: never HTTP, and nodes hold silent connections
	11211, // memcached: never HTTP, and pools open connections long before the first command
}

// Default is the configuration of an empty file. Its Sidecar.Image is empty, because no image fits every installation.
// Injection requires one (Mesh.ValidateForInjection).
func Default() *Mesh {
	m := &Mesh{}
	m.setDefaults()
	return m
}

func (m *Mesh) setDefaults() {
	m.TypeMeta = metav1.TypeMeta{APIVersion: APIVersion, Kind: Kind}
	setDefault(&m.ClusterDomain, "cluster.local")
	setDefault(&m.ControlPlaneAddress, net.JoinHostPort(
		OfRevision(ControllerService, m.Revision)+"."+SystemNamespace+".svc."+m.ClusterDomain, strconv.Itoa(XDSPort)))

	setDefault(&m.TrustDomain, "cluster.local")
	setDefault(&m.Identity.Enabled, new(true))
	if *m.Identity.Enabled {
		m.MTLS.TrustDomain = m.TrustDomain
	}
	setDefault(&m.Identity.CertificateLifetime, &metav1.Duration{Duration: 24 * time.Hour})
	setDefault(&m.Identity.CALifetime, &metav1.Duration{Duration: 10 * 365 * 24 * time.Hour})
	setDefault(&m.Identity.CASettle, &metav1.Duration{Duration: 10 * time.Minute})
	setDefault(&m.Identity.CheckSourceAddress, new(true))
	setDefault(&m.MTLS.Mode, Permissive)
	setDefault(&m.MTLS.DrainTime, &metav1.Duration{Duration: 10 * time.Second})

	setDefault(&m.Detection.Timeout, &metav1.Duration{Duration: time.Second})
	if m.Detection.OpaquePorts == nil { // an empty list in the file says "none"
		m.Detection.OpaquePorts = slices.Clone(DefaultOpaquePorts)
	}

	setDefault(&m.Traffic.ConnectTimeout, &metav1.Duration{Duration: 5 * time.Second})
	setDefault(&m.Traffic.PeerTimeout, &metav1.Duration{Duration: 12 * time.Second})
	setDefault(&m.Traffic.ConnectFailures, new(int32(5)))
	setDefault(&m.Traffic.Retry.Attempts, new(int32(4)))
	setDefault(&m.Traffic.Retry.BudgetPercent, new(int32(100)))
	setDefault(&m.Traffic.Retry.MinConcurrent, new(int32(10_000)))
	setDefault(&m.Traffic.RouteRetry.BudgetPercent, new(int32(20)))
	setDefault(&m.Traffic.RouteRetry.MinConcurrent, new(int32(3)))

	setDefault(&m.OnDemand.Timeout, &metav1.Duration{Duration: 10 * time.Second})
	setDefault(&m.OnDemand.WholeMesh, new(int32(100)))
	setDefault(&m.OnDemand.Namespace, new(int32(50)))

	setDefault(&m.Gateways.Enabled, new(m.Revision == ""))
	m.Gateways.setDefaults()

	setDefault(&m.Sidecar.LogLevel, "warning")
	setDefault(&m.Sidecar.Concurrency, new(int32(2)))
	setDefault(&m.Sidecar.DrainDelay, &metav1.Duration{Duration: 3 * time.Second})
	if m.Sidecar.Resources.Requests == nil && m.Sidecar.Resources.Limits == nil {
		// Requests only: a limit that is too low throttles or kills the pod's whole traffic.
		m.Sidecar.Resources.Requests = corev1.ResourceList{
			corev1.ResourceCPU:    resource.MustParse("50m"),
			corev1.ResourceMemory: resource.MustParse("64Mi"),
		}
	}
}

// defaultGatewayReplicas let a Gateway lose a pod without an outage.
const defaultGatewayReplicas = 2

func (g *Gateways) setDefaults() {
	setDefault(&g.CreateClass, new(true))
	setDefault(&g.ClassName, "mizzen")
	setDefault(&g.Defaults.ServiceType, corev1.ServiceTypeLoadBalancer)
	setDefault(&g.Defaults.Replicas, new(int32(defaultGatewayReplicas)))
	setDefault(&g.Defaults.Resources, &corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("100m"),
		corev1.ResourceMemory: resource.MustParse("128Mi"),
	}})
	setDefault(&g.Defaults.LogLevel, "warning")
	setDefault(&g.Defaults.DrainDelay, &metav1.Duration{Duration: 5 * time.Second})
	setDefault(&g.Defaults.DrainTimeout, &metav1.Duration{Duration: 30 * time.Second})
	setDefault(&g.Defaults.TrustedHops, new(int32(0)))
	setDefault(&g.Defaults.ProxyProtocol, new(false))
	setDefault(&g.Defaults.ForwardClientCertificate, new(false))
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
