// Package translate builds Envoy's resources, statuses and problems from Kubernetes objects. It is the whole of the first two
// stages:
//
//	Kubernetes objects ──mesh.BuildService, mesh.BuildRoutes, …──▶ mesh model, statuses, problems
//	mesh model         ──envoy.ServiceResources, …───────────────▶ Envoy protos
//
// A Translator indexes the cluster's objects. Set and Delete update the index. Urgent and Build return what has to be published.
// All does the same for a list of objects. There is no client, clock, goroutine or randomness in this package: the caller
// decides when.
//
// It may import xds/mesh, xds/envoy, config, internal/node, internal/sds, and the types of Kubernetes' API, the Gateway API and
// api/v1alpha1; no Kubernetes clients.
package translate
