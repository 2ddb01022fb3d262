package envoy

import (
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// socketMatch is the part of an endpoint's metadata by which Envoy chooses the transport socket. identityKey is Mizzen's key
// there.
const (
	socketMatch = "envoy.transport_socket_match"
	identityKey = "identity"
)

// secure gives a cluster one transport socket for each identity of the Service's endpoints, and one for endpoints without
// an identity. Each endpoint names its socket (identityMetadata).
//
// An endpoint whose identity the cluster does not know cannot be called: Envoy takes the cluster's own socket for it, with
// which every handshake fails. So no endpoint with an identity ever gets plain text, whether cluster or endpoint comes
// first. The failed handshake counts as a failure to connect, which is safe to retry.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/cluster/v3/cluster.proto#envoy-v3-api-field-config-cluster-v3-cluster-transport-socket-matches
func secure(c *clusterv3.Cluster, svc *mesh.Service, speaks string, mtls config.MeshMTLS) {
	if !mtls.On() {
		return
	}
	match := func(name, identity string, socket *corev3.TransportSocket) {
		c.TransportSocketMatches = append(c.TransportSocketMatches, &clusterv3.Cluster_TransportSocketMatch{
			Name: name, Match: identityOf(identity), TransportSocket: socket,
		})
	}
	for _, id := range svc.Identities {
		match(strings.TrimPrefix(id, "spiffe://"), id, callerTLS(id, speaks))
	}
	match(mesh.PlainText, mesh.PlainText, rawSocket())
	c.TransportSocket = nobodyTLS()
	c.UpstreamBindConfig = asCall()
}

// asCall marks connections for the capture rules. A pod that calls its own Service may choose itself. That connection must
// go to the inbound listener, because the application cannot terminate mTLS.
func asCall() *corev3.BindConfig { return socketPriority(config.CallPriority) }

// socketPriority sets the priority by which the capture rules know a connection. It binds no address.
func socketPriority(priority int64) *corev3.BindConfig {
	return &corev3.BindConfig{SocketOptions: []*corev3.SocketOption{{
		Description: "SO_PRIORITY",
		Level:       1,  // SOL_SOCKET
		Name:        12, // SO_PRIORITY
		Value:       &corev3.SocketOption_IntValue{IntValue: priority},
		State:       corev3.SocketOption_STATE_PREBIND,
	}}}
}

// identityMetadata returns an endpoint's metadata, nil in a mesh without identities.
func identityMetadata(identity string) *corev3.Metadata {
	if identity == "" {
		return nil
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{socketMatch: identityOf(identity)}}
}

func identityOf(identity string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{identityKey: structpb.NewStringValue(identity)}}
}

func rawSocket() *corev3.TransportSocket {
	return socket("envoy.transport_sockets.raw_buffer", &rawv3.RawBuffer{})
}

// tlsSocket returns the transport socket for the context of either side.
func tlsSocket[T *tlsv3.UpstreamTlsContext | *tlsv3.DownstreamTlsContext](context T) *corev3.TransportSocket {
	return socket("envoy.transport_sockets.tls", any(context).(proto.Message))
}

func socket(name string, m proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: name, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(m)}}
}
