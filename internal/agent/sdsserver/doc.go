// Package sdsserver serves the workload's certificate and the mesh's roots to Envoy over a Unix socket, and knows which
// roots Envoy has acknowledged. It serves the state-of-the-world protocol, which is what sds.Config asks for.
//
// It does not use go-control-plane's server, because that would cost every pod half a megabyte for protos of unused
// services. The package may import internal/sds of this module.
package sdsserver
