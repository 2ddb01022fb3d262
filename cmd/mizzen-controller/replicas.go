package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// listReplicas returns the addresses, with a port, of the other ready replicas.
func listReplicas(in client.Reader, o *options, port int) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		endpoints, err := ownSlices(ctx, in, o)
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

// isReplica reports whether an address belongs to a replica, ready or not.
func isReplica(in client.Reader, o *options) func(context.Context, netip.Addr) bool {
	return func(ctx context.Context, from netip.Addr) bool {
		endpoints, err := ownSlices(ctx, in, o)
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

// ownSlices lists the EndpointSlices of our own Service.
func ownSlices(ctx context.Context, in client.Reader, o *options) ([]discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	err := in.List(ctx, &list, client.InNamespace(o.namespace), client.MatchingLabels{discoveryv1.LabelServiceName: o.webhookService}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("list the EndpointSlices of Service %s/%s: %w", o.namespace, o.webhookService, err)
	}
	return list.Items, nil
}
