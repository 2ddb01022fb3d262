// Package server speaks delta ADS to the sidecars. It holds the newest resources (Store) and for
// each proxy only which version of what it was sent (stream); a change reaches a proxy as the names
// of what changed, and a slow proxy gets the newest state, not the backlog.
//
// It may import xds/envoy for resources and their types, config, internal/httpjson, internal/netlimit, internal/node
// and gRPC; no Kubernetes clients.
//
// The protocol: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#incremental-xds
package server
