package main

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// listReplicas lists the addresses of the other replicas that are ready, with a port.
func listReplicas(source *kube.Source, o *options, port int) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		endpoints, err := source.EndpointSlices(ctx, mesh.Key{Namespace: o.namespace, Name: o.webhookService})
		if err != nil {
			return nil, err
		}
		var out []string
		for _, slice := range endpoints {
			for _, ep := range slice.Endpoints {
				ready := ep.Conditions.Ready == nil || *ep.Conditions.Ready
				if ready && (ep.TargetRef == nil || ep.TargetRef.Name != o.podName) && len(ep.Addresses) > 0 {
					out = append(out, net.JoinHostPort(ep.Addresses[0], strconv.Itoa(port)))
				}
			}
		}
		return out, nil
	}
}

// isReplica tells whether an address is that of a replica, ready or not.
func isReplica(source *kube.Source, o *options) func(context.Context, netip.Addr) bool {
	return func(ctx context.Context, from netip.Addr) bool {
		endpoints, err := source.EndpointSlices(ctx, mesh.Key{Namespace: o.namespace, Name: o.webhookService})
		if err != nil {
			return false // only a hint is lost
		}
		for _, slice := range endpoints {
			for _, ep := range slice.Endpoints {
				if slices.ContainsFunc(ep.Addresses, func(a string) bool {
					addr, err := netip.ParseAddr(a)
					return err == nil && addr.Unmap() == from
				}) {
					return true
				}
			}
		}
		return false
	}
}
