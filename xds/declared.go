package xds

import (
	"context"
	"reflect"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// firstDeclared reads all Services.
func (c *Controller) firstDeclared(ctx context.Context) error {
	services, err := c.opt.Source.Services(ctx)
	if err != nil {
		return err
	}
	for _, svc := range services {
		c.inbounds.declared.set(mesh.Key{Namespace: svc.Namespace, Name: svc.Name}, mesh.BuildDeclared(svc, c.settings))
	}
	return nil
}

// takeDeclared reads Services anew. It gives the pods that may take something else because of it.
func (c *Controller) takeDeclared(ctx context.Context, changes *kube.Changes) sets.Set[mesh.Key] {
	out := sets.Set[mesh.Key]{}
	for key := range changes.Services {
		object, err := c.opt.Source.Service(ctx, key)
		if err != nil {
			c.opt.Log.Error(err, "keeping what is known of the Service's protocols", "service", key.String())
			continue
		}
		before, now := c.inbounds.declared[key.Namespace][key], mesh.Declared{}
		if object == nil {
			c.inbounds.declared.delete(key)
		} else {
			now = mesh.BuildDeclared(object, c.settings)
			c.inbounds.declared.set(key, now)
		}
		if reflect.DeepEqual(before, now) {
			continue // as when its status has changed
		}
		for pod := range c.pods.In(key.Namespace) {
			if before.Holds(pod) || now.Holds(pod) {
				out.Insert(pod.Key)
			}
		}
	}
	return out
}
