// Package xds turns Kubernetes objects into Envoy configuration, in three stages:
//
//	Kubernetes objects ──mesh.BuildService, mesh.Endpoints──▶ mesh model, statuses of routes
//	                     mesh.BuildRoutes
//	mesh model         ──envoy.ServiceResources, …─────────▶ Envoy protos
//	Envoy protos       ──server.Store──────────────────────▶ delta ADS
//
// The first two stages are pure: no clients, clocks, globals or randomness; the same input gives the
// same bytes. All side effects sit at the ends: xds/kube watches, xds/server speaks ADS, xds/status writes. This
// package holds the one goroutine that joins them (Controller).
//
//	xds/mesh    may import the types of Kubernetes' API and the Gateway API, and config; no Envoy protos, no clients
//	xds/envoy   may import xds/mesh, config and Envoy protos; no Kubernetes clients
//	xds/server  may import xds/envoy, config, internal/node and gRPC; no Kubernetes clients
//	xds/peers   may import xds/envoy and the standard library
//	xds/kube    may import controller-runtime's cache; no Envoy protos
//	xds/status  may import xds/mesh, xds/kube and controller-runtime's client; no Envoy protos
//
// Nothing here imports webhook, and webhook imports nothing from here. internal/imports tests it.
package xds
