package xds

import (
	"context"
	"slices"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/kube"
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
	return !slices.ContainsFunc(e.identities, func(id string) bool { return !slices.Contains(identities, id) })
}

func (c *Controller) endpoints(ctx context.Context, svc *mesh.Service) (serviceEndpoints, error) {
	endpointSlices, err := c.opt.Source.EndpointSlices(ctx, svc.Key)
	if err != nil {
		return serviceEndpoints{}, err
	}
	if c.pods != nil {
		c.depend.setPods(svc.Key, mesh.PodRefs(endpointSlices))
	}
	byPort, problems := mesh.Endpoints(svc, endpointSlices, c.pods)
	out := serviceEndpoints{identities: mesh.Identities(byPort), problems: problems}
	for key, endpoints := range byPort {
		out.resources = append(out.resources, envoy.EndpointResources(svc, key, endpoints)...)
	}
	return out, nil
}

// podsOf gives a place for the pods of a mesh with identities, nil for one without.
func podsOf(cfg *config.Mesh) *mesh.Pods {
	if !cfg.MTLS.On() {
		return nil
	}
	return mesh.NewPods(cfg.MTLS.TrustDomain)
}

// firstPods reads all pods, where the mesh has identities.
func (c *Controller) firstPods(ctx context.Context) error {
	if c.pods == nil {
		return nil
	}
	pods, err := c.opt.Source.Pods(ctx)
	if err != nil {
		return err
	}
	for _, pod := range pods {
		c.pods.Set(mesh.BuildPod(pod))
	}
	return nil
}

// takePods brings the pods up to date, and adds the endpoints that they stand behind to what has changed: a
// pod and its endpoint come over two watches, in any order.
func (c *Controller) takePods(ctx context.Context, changes *kube.Changes) {
	if c.pods == nil {
		return
	}
	for key := range changes.Pods {
		pod, err := c.opt.Source.Pod(ctx, key)
		if err != nil {
			c.opt.Log.Error(err, "keeping what is known of the pod", "pod", key.String())
			continue
		}
		if pod == nil {
			c.pods.Delete(key)
		} else {
			c.pods.Set(mesh.BuildPod(pod))
		}
		for service := range c.depend.ofPod(key) {
			changes.Endpoints[service] = struct{}{}
		}
	}
}
