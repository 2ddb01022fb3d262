// Package sdsserver gives Envoy the workload's certificate and the mesh's roots over a Unix socket, and knows
// which roots Envoy has acknowledged. It serves the state-of-the-world protocol, which is what sds.Config asks for.
//
// It is a server of its own because go-control-plane's costs every pod half a megabyte, with the protos of
// services that nobody calls here. The package may import internal/sds of this module.
package sdsserver
