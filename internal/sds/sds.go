// Package sds says what the secrets of a sidecar are called, how Envoy asks its agent for them, and what it tells the
// agent over the same socket. The agent writes it into the bootstrap, the control plane into clusters and listeners. It may import Envoy's protos only.
package sds

import (
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// Cluster is the bootstrap's cluster of the agent.
	Cluster = "sds"
	// Workload is the secret with the workload's certificate and key.
	Workload = "workload"
	// Bundle is the secret with the mesh's roots.
	Bundle = "bundle"
	// PlainTextLog is the access log with those who are not of the mesh (envoy.service.accesslog.v3).
	PlainTextLog = "plaintext"
	// MTLSLog is the one with callers of the mesh, at ports where sidecars do not look into the bytes.
	MTLSLog = "mtls"
	// DryRunLog is the one with requests that policies in dry run would refuse.
	DryRunLog = "dryrun"
	// TypeURL of a secret.
	TypeURL = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// Config lets a TLS context fetch a secret. Envoy subscribes once to each name, however many contexts use it,
// as long as they are configured the same.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/security/secret
func Config(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_ApiConfigSource{ApiConfigSource: &corev3.ApiConfigSource{
			ApiType:                   corev3.ApiConfigSource_GRPC,
			TransportApiVersion:       corev3.ApiVersion_V3,
			SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
					ClusterName: Cluster,
					// Envoy's first try always fails, because it asks before the cluster is ready; its own bounds,
					// 0.5 s and 30 s, would delay the start of every pod.
					RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
						BaseInterval: durationpb.New(5 * time.Millisecond),
						MaxInterval:  durationpb.New(time.Second),
					}},
				},
			}}},
		}},
		ResourceApiVersion: corev3.ApiVersion_V3,
		// Without it there is nothing to do: Envoy does not even call the control plane before it has the secrets.
		InitialFetchTimeout: durationpb.New(0),
	}}
}
