package mesh

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// protocols maps a lower-case appProtocol or port name prefix to its treatment. Names with
// "kubernetes.io/" are those of
// https://kubernetes.io/docs/concepts/services-networking/service/#application-protocol; the others
// are IANA names or the words that users of service meshes know.
var protocols = map[string]Protocol{
	"http": HTTP, "http2": HTTP, "h2c": HTTP, "grpc": HTTP, "grpc-web": HTTP, "ws": HTTP,
	"kubernetes.io/h2c": HTTP, "kubernetes.io/ws": HTTP,

	// Encrypted by the application: opaque to us.
	"https": TCP, "tls": TCP, "wss": TCP, "kubernetes.io/wss": TCP,

	"tcp": TCP, "mysql": TCP, "postgres": TCP, "postgresql": TCP, "redis": TCP, "mongo": TCP,
	"mongodb": TCP, "kafka": TCP, "amqp": TCP, "nats": TCP, "smtp": TCP, "imap": TCP, "pop3": TCP,
	"ftp": TCP, "ssh": TCP, "ldap": TCP, "dns": TCP, "memcached": TCP, "mqtt": TCP, "cassandra": TCP,
	"zookeeper": TCP, "thrift": TCP,
}

// allowedAppProtocols is for messages.
var allowedAppProtocols = func() string {
	names := make([]string, 0, len(protocols))
	for name := range protocols {
		names = append(names, name)
	}
	slices.Sort(names)
	return "one of " + strings.Join(names, ", ")
}()

// protocolOf decides in this order: appProtocol, the prefix of the port's name (for HTTP only without signs of TLS), the
// well-known server-first ports, detection. It returns a problem if appProtocol is unknown.
func protocolOf(svc *corev1.Service, i int, opaquePorts []int32) (Protocol, *Problem) {
	port := svc.Spec.Ports[i]
	if port.AppProtocol != nil && *port.AppProtocol != "" {
		if p, ok := protocols[strings.ToLower(*port.AppProtocol)]; ok {
			return p, nil
		}
		return TCP, &Problem{
			Object:  ID{KindService, Key{svc.Namespace, svc.Name}},
			UID:     string(svc.UID),
			Reason:  "UnknownAppProtocol",
			Field:   fmt.Sprintf("spec.ports[%d].appProtocol", i),
			Value:   *port.AppProtocol,
			Allowed: allowedAppProtocols,
			Effect:  "treated as opaque TCP",
		}
	}
	if p, ok := fromName(port.Name); ok {
		if p == HTTP && maybeTLS(port) {
			return Detect, nil
		}
		return p, nil
	}
	if slices.Contains(opaquePorts, port.Port) {
		return TCP, nil
	}
	return Detect, nil
}

// overHTTP2 are those of the protocols that need HTTP/2.
var overHTTP2 = []string{"http2", "h2c", "grpc", "kubernetes.io/h2c"}

// declaresHTTP2 reports whether a port says by its appProtocol, or else by its name, that its server speaks HTTP/2.
func declaresHTTP2(port corev1.ServicePort) bool {
	if port.AppProtocol != nil && *port.AppProtocol != "" {
		return slices.Contains(overHTTP2, strings.ToLower(*port.AppProtocol))
	}
	prefix, _, _ := strings.Cut(port.Name, "-")
	return slices.Contains(overHTTP2, prefix)
}

// fromName reads "<protocol>" or "<protocol>-<anything>". The protocol grpc-web contains a hyphen, but its prefix grpc means
// HTTP, too.
func fromName(name string) (Protocol, bool) {
	prefix, _, _ := strings.Cut(name, "-")
	p, ok := protocols[prefix]
	return p, ok
}

// tlsPorts are numbers at which servers usually speak TLS.
var tlsPorts = []int32{443, 6443, 8443, 9443, 10250}

// maybeTLS reports whether a port that is named HTTP or gRPC looks as if the application uses TLS itself, for example
// "grpc" at 443, or "grpc-tls". Many users name a port after the protocol inside TLS, and a sidecar would read the first
// bytes as HTTP. Detection sees at once which of the two it is.
func maybeTLS(port corev1.ServicePort) bool {
	says := func(name string) bool {
		return slices.ContainsFunc(strings.Split(name, "-"), func(word string) bool {
			return word == "https" || word == "tls" || word == "ssl"
		})
	}
	target := port.TargetPort
	return says(port.Name) || says(target.StrVal) || slices.Contains(tlsPorts, port.Port) || slices.Contains(tlsPorts, target.IntVal)
}
