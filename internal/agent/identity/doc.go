// Package identity keeps the workload's certificate: it makes the key, asks the control plane for the
// certificate, renews it early, follows the mesh's roots, and gives all of it to Envoy (internal/agent/sdsserver).
//
// A private key lives in memory only, is made anew for each certificate, and is in no text that leaves the
// package but what Envoy gets. The package may import internal/agentapi, internal/ca, internal/identity/api and
// internal/agent/sdsserver of this module.
package identity
