// Package server speaks delta ADS to the sidecars. It holds the newest resources (Store), and for each proxy only
// the names and versions that the proxy was sent (stream). A change reaches a stream as a list of names, so a slow
// proxy gets the newest state and never a backlog.
//
// It may import xds/envoy for resources and their types, config, internal/httpjson, internal/netlimit, internal/node
// and gRPC; no Kubernetes clients.
//
// The protocol: https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#incremental-xds
package server
