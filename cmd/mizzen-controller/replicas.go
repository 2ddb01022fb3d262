package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
)

// listReplicas returns the addresses, with a port, of the other ready replicas.
func listReplicas(in client.Reader, o *options, port int) func(context.Context) ([]string, error) {
	return func(ctx context.Context) ([]string, error) {
		endpoints, err := controlPlaneSlices(ctx, in, o)
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
		endpoints, err := controlPlaneSlices(ctx, in, o)
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

// controlPlaneSlices lists the EndpointSlices of the Services of all control planes of the mesh, the main one and revisions.
func controlPlaneSlices(ctx context.Context, in client.Reader, o *options) ([]discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	if err := in.List(ctx, &list, client.InNamespace(o.namespace), client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list the EndpointSlices of the control plane in namespace %s: %w", o.namespace, err)
	}
	return slices.DeleteFunc(list.Items, func(s discoveryv1.EndpointSlice) bool {
		service := s.Labels[discoveryv1.LabelServiceName]
		return service != o.webhookService && service != config.ControllerService && !strings.HasPrefix(service, config.ControllerService+"-")
	}), nil
}
