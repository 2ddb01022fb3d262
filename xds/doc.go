// Package xds turns Kubernetes objects into Envoy configuration:
//
//	Kubernetes objects ──translate.Translator──▶ Envoy protos, statuses, problems
//	Envoy protos       ──server.Store──────────▶ delta ADS
//
// The translator is pure: it has no clients, clocks, globals or randomness, and the same input results in the same bytes.
// All side effects are at the ends: xds/kube watches, xds/server speaks ADS, xds/status writes. This package has the one
// goroutine that joins them (Controller), and the times for which it holds changes back.
//
//	xds/mesh       may import the types of Kubernetes' API and the Gateway API, and config; no Envoy protos, no clients
//	xds/envoy      may import xds/mesh, config and Envoy protos; no Kubernetes clients
//	xds/translate  may import xds/mesh, xds/envoy and config; no Kubernetes clients
//	xds/server     may import xds/envoy, config, internal/node and gRPC; no Kubernetes clients
//	xds/peers      may import xds/envoy and the standard library
//	xds/kube       may import controller-runtime's cache; no Envoy protos
//	xds/status     may import xds/mesh and controller-runtime's client; no Envoy protos
//
// Nothing here imports webhook, and webhook imports nothing from here. A test in internal/imports checks these rules.
package xds
