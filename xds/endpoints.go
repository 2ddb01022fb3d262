package xds

import (
	"context"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// serviceEndpoints are the endpoints of all ports of a Service.
type serviceEndpoints struct {
	resources  []envoy.Resource
	identities []string
	problems   []mesh.Problem
}

// within reports whether a cluster that knows these identities may send to all of the endpoints.
func (e serviceEndpoints) within(identities []string) bool {
	return within(e.identities, identities)
}

func (c *Controller) endpoints(ctx context.Context, svc *mesh.Service) (serviceEndpoints, error) {
	endpointSlices, err := c.opt.Source.EndpointSlices(ctx, svc.Key)
	if err != nil {
		return serviceEndpoints{}, err
	}
	if c.pods != nil {
		c.depend.setPods(svc.Key, mesh.PodRefs(endpointSlices), c.pods.PodAddrs(endpointSlices))
	}
	byPort, problems := mesh.Endpoints(svc, endpointSlices, c.pods)
	out := serviceEndpoints{identities: mesh.Identities(byPort), problems: problems}
	for key, endpoints := range byPort {
		out.resources = append(out.resources, envoy.EndpointResources(svc, key, endpoints)...)
	}
	return out, nil
}
