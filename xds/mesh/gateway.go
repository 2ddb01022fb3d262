package mesh

import (
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Gateway is what the pods of a Gateway serve, with the listeners of its ListenerSets. It has only listeners that can be served.
type Gateway struct {
	Key
	// ServiceAccount is that of its pods. They alone get what belongs to the Gateway.
	ServiceAccount string
	// Ports of its Service, sorted by number, TCP before UDP: those of all listeners, even of those that are not served.
	Ports []GatewayPort
	// Sockets that the pods listen on, sorted by port, TCP before UDP.
	Sockets []Socket
	// Secrets that its listeners and clusters name, sorted by name, each once.
	Secrets []Secret
	// ClientCertificate is the Secret that the Gateway shows to backends with a BackendTLSPolicy; empty for none.
	ClientCertificate string
	Clients           Clients
}

// Clients says how a Gateway learns who its clients are, and what it tells backends of them. The parameters of the same names in
// config.GatewayParameters have the details.
type Clients struct {
	TrustedHops              uint32
	ProxyProtocol            bool
	ForwardClientCertificate bool
}

// Socket is a port of a Gateway with its listeners.
type Socket struct {
	// Port is the listeners' port, Bind the one that the pods listen on (BindPort).
	Port, Bind uint16
	UDP        bool
	// Listeners of the port, sorted by name. No two of them take the same requests or connections.
	Listeners []Listener
}

// Listener is a listener of a Gateway or of one of its ListenerSets.
type Listener struct {
	// Name is unique in the Gateway: that of the listener, or "<namespace>/<ListenerSet>/<listener>".
	Name     string
	Protocol gatewayv1.ProtocolType
	// Hostname is empty for any, a name in lower case, or "*." and a suffix.
	Hostname string
	// TLS is nil for a listener that does not end TLS.
	TLS *ListenerTLS
	// Hosts are the virtual hosts of a listener for requests (HTTP, HTTPS), sorted by name. There is always one with the
	// listener's own Hostname, if necessary without rules.
	Hosts []VirtualHost
	// Connections are the rules of a listener for connections (TLS, TCP, UDP): one for each server name, or one for all.
	Connections []Rule
}

// VirtualHost has the rules for the requests to some host names. The most specific virtual host counts.
type VirtualHost struct {
	// Name is empty for any, a name in lower case, or "*." and a suffix.
	Name string
	// Rules in the order in which they are tried.
	Rules []Rule
}

// ListenerTLS is how a listener ends TLS.
type ListenerTLS struct {
	// Certificates are names of Secrets, at least one.
	Certificates []string
	// ClientCA is the Secret with the CAs that sign clients' certificates; empty if clients are not asked for one.
	ClientCA string
	// AllowInvalidClient takes clients without a certificate, and those with one that the CAs have not signed.
	AllowInvalidClient bool
	// MinVersion and MaxVersion are "1.0" to "1.3", or empty for Envoy's defaults.
	MinVersion, MaxVersion string
	// CipherSuites by the names of OpenSSL, for TLS 1.2 and older; empty for Envoy's defaults.
	CipherSuites []string
	// HTTP3 serves the listener over QUIC, too, at the same port.
	HTTP3 bool
}

// Secret is what the pods of a Gateway get by SDS.
type Secret struct {
	// Name is unique in the mesh (SecretName).
	Name string
	// Chain and Key are a certificate chain and its private key in PEM. CAs is a bundle in PEM. One of the two is set.
	Chain, Key, CAs []byte
}

// CORS is what an HTTPRoute's filter of this name says.
// https://gateway-api.sigs.k8s.io/reference/spec/#httpcorsfilter
type CORS struct {
	// AllowOrigins are regular expressions for whole origins; AnyOrigin stands for "*".
	AllowOrigins []string
	AnyOrigin    bool
	// "*" is an element of its own.
	AllowMethods, AllowHeaders, ExposeHeaders []string
	AllowCredentials                          bool
	MaxAge                                    time.Duration
}

// ExternalAuth has a server decide about each request.
// https://gateway-api.sigs.k8s.io/reference/spec/#httpexternalauthfilter
type ExternalAuth struct {
	Target
	GRPC bool
	// Path goes before the path of the request, over HTTP.
	Path string
	// RequestHeaders are those that the server gets, in lower case; empty for all over gRPC, and for those that it always gets over
	// HTTP. ResponseHeaders are those of its answer that the backend gets, over HTTP.
	RequestHeaders, ResponseHeaders []string
	// BodyBytes of the request are sent along.
	BodyBytes uint32
}

// BackendTLS is how a gateway calls a Service port that has a BackendTLSPolicy.
// https://gateway-api.sigs.k8s.io/reference/spec/#backendtlspolicyvalidation
type BackendTLS struct {
	// Hostname is the server name, and the certificate's unless there are SANs.
	Hostname string
	// DNSNames and URIs are subject alternative names, of which the certificate must have one.
	DNSNames, URIs []string
	// CAs is a bundle in PEM; nil for the CAs of the image.
	CAs []byte
	// Invalid is true if there is no CA to trust: every handshake fails.
	Invalid bool
}

// Owner is "<namespace>/<service account>", by which the Gateway's pods are known.
func (g Gateway) Owner() string { return g.Namespace + "/" + g.ServiceAccount }

// CertificateName returns the name of the Secret that has a certificate in the Gateway's listeners.
func (g Gateway) CertificateName(secret Key) string { return g.SecretName("certificate", secret) }

// SecretName returns the name of an object's Secret for a Gateway's pods: "gateway/<namespace>/<service account>/<kind>/<namespace>/<name>".
func (g Gateway) SecretName(kind string, object Key) string {
	return "gateway/" + g.Owner() + "/" + kind + "/" + object.String()
}
