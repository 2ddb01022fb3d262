// Package gateway deploys Gateways in the cluster: each Gateway of a class of Mizzen gets pods and a Service of its own, in its
// own namespace. It also makes Mizzen's GatewayClass, and writes the status of GatewayClasses. Only the leader does any of this.
// https://gateway-api.sigs.k8s.io/geps/gep-1762/
//
// Render is pure: a Gateway in, objects out. Deployer applies them, server-side.
//
// It may import config, internal/identity/api, internal/sidecar with its contract, xds/mesh, and of xds/kube and xds/status what both have of the cluster.
package gateway
