package ctl

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// endpointsView counts the endpoints of a Service port in its EndpointSlices.
type endpointsView struct {
	Ready int `json:"ready"`
	// NotReady get no calls while there are ready ones.
	NotReady int `json:"notReady,omitempty"`
}

// slicesOf reads the EndpointSlices of a namespace, or of all for "", by Service.
func slicesOf(ctx context.Context, c client.Client, namespace string) (map[mesh.Key][]discoveryv1.EndpointSlice, error) {
	var list discoveryv1.EndpointSliceList
	if err := c.List(ctx, &list, client.InNamespace(namespace)); err != nil {
		return nil, fmt.Errorf("list EndpointSlices: %w", err)
	}
	out := map[mesh.Key][]discoveryv1.EndpointSlice{}
	for _, s := range list.Items {
		key := mesh.Key{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
		out[key] = append(out[key], s)
	}
	return out, nil
}

// countEndpoints counts the endpoints in the first of a Service's IP families, because the slices of the other family
// have the same pods. An endpoint in two slices, such as one that Kubernetes is moving, counts once.
func countEndpoints(slices []discoveryv1.EndpointSlice, svc *mesh.Service, portName string) *endpointsView {
	family := discoveryv1.AddressTypeIPv4
	if len(svc.ClusterIPs) > 0 && svc.ClusterIPs[0].Is6() {
		family = discoveryv1.AddressTypeIPv6
	}
	ready := map[string]bool{}
	for _, s := range slices {
		if s.AddressType != family {
			continue
		}
		for _, p := range s.Ports {
			if p.Name != nil && *p.Name != portName || p.Name == nil && portName != "" || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
				continue
			}
			for _, e := range s.Endpoints {
				at := fmt.Sprint(strings.Join(e.Addresses, ","), p.Port)
				ready[at] = ready[at] || e.Conditions.Ready == nil || *e.Conditions.Ready
			}
		}
	}
	v := &endpointsView{}
	for _, is := range ready {
		if is {
			v.Ready++
		} else {
			v.NotReady++
		}
	}
	return v
}

func (v *endpointsView) String() string {
	text := plural(v.Ready, "endpoint")
	switch {
	case v.Ready == 0 && v.NotReady == 0:
		return "no endpoints"
	case v.Ready == 0:
		return fmt.Sprintf("0 of %d endpoints ready", v.NotReady)
	case v.NotReady > 0:
		text += fmt.Sprintf(", %d more not ready", v.NotReady)
	}
	return text
}
