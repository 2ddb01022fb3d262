// Package sds gives Envoy the workload's certificate and the mesh's roots over a Unix socket, and knows
// which roots Envoy has acknowledged. It serves the state-of-the-world protocol, which is what SourceConfig
// asks for: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/security/secret
//
// It is a server of its own because go-control-plane's costs every pod half a megabyte, with protos of
// services that nobody calls here, and tells less of what was acknowledged. The package may import
// config of this module.
package sds
