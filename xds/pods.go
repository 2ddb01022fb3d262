package xds

import (
	"context"
	"net/netip"
	"reflect"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// podsOf gives a place for the pods of a mesh with identities, nil for one without.
func podsOf(cfg *config.Mesh) *mesh.Pods {
	if !cfg.MTLS.On() {
		return nil
	}
	return mesh.NewPods(cfg.MTLS.TrustDomain)
}

// firstPods reads all pods, and what each takes.
func (c *Controller) firstPods(ctx context.Context, change *server.Change) error {
	namespaces, err := c.opt.Source.Namespaces(ctx)
	if err != nil {
		return err
	}
	for _, ns := range namespaces {
		c.setNamespace(ns)
	}
	if err := c.firstDeclared(ctx); err != nil {
		return err
	}
	pods, err := c.opt.Source.Pods(ctx)
	if err != nil {
		return err
	}
	for _, object := range pods {
		pod := mesh.BuildPod(object)
		c.setPod(pod)
		c.inbounds.set(pod, change)
	}
	return nil
}

func (c *Controller) setPod(pod *mesh.Pod) {
	c.pods.Set(pod)
	c.tell(mesh.Object{Kind: mesh.KindPod, Key: pod.Key}, pod.Problems)
}

// takePods brings the pods up to date, and adds the endpoints that they stand behind to what has changed: a
// pod and its endpoint come over two watches, in any order. What pods take goes out at once, and so does who is
// at their addresses. It reports whether the outbound listener must be built again.
func (c *Controller) takePods(ctx context.Context, changes *kube.Changes, change *server.Change) (listener bool) {
	if c.pods == nil {
		return false
	}
	again := c.takeDeclared(ctx, changes) // pods that may take something else
	addrs := sets.Set[netip.Addr]{}       // at which somebody else may answer
	for key := range changes.Pods {
		before := c.pods.Get(key)
		exists := c.takePod(ctx, key, change)
		now := c.pods.Get(key)
		if reflect.DeepEqual(before, now) {
			continue // most changes of a pod's status
		}
		if exists {
			again.Insert(key)
		}
		for _, p := range []*mesh.Pod{before, now} {
			if p != nil {
				addrs.Insert(p.IPs...)
			}
		}
		for service := range c.depend.ofPod(key) {
			changes.Endpoints[service] = struct{}{}
		}
	}
	namespaces := sets.Set[string]{}
	for name := range changes.Namespaces {
		if c.takeNamespace(ctx, name) {
			namespaces.Insert(name)
		}
	}
	for id := range changes.Objects {
		if id.Kind == kube.AuthorizationPolicy {
			namespaces.Insert(id.Namespace)
		}
	}
	for name := range namespaces {
		for pod := range c.pods.In(name) {
			again.Insert(pod.Key)
		}
	}
	for key := range again {
		if c.inbounds.set(c.pods.Get(key), change) {
			c.renewals.later(c.depend.ofPod(key))
		}
	}
	return c.takeAddrs(addrs, changes, change)
}

// takeAddrs follows addresses at which somebody else may answer.
func (c *Controller) takeAddrs(addrs sets.Set[netip.Addr], changes *kube.Changes, change *server.Change) (listener bool) {
	for ip := range addrs {
		for service := range c.depend.ofAddr(ip) {
			changes.Endpoints[service] = struct{}{}
		}
		for port := range c.calls.wanted[ip] {
			c.podAddress(netip.AddrPortFrom(ip, port), change)
		}
	}
	return len(addrs) > 0 && !within(c.pods.Ranges(), c.calls.ranges)
}

// takePod reads a pod anew; it reports whether there is one.
func (c *Controller) takePod(ctx context.Context, key mesh.Key, change *server.Change) (exists bool) {
	object, err := c.opt.Source.Pod(ctx, key)
	if err != nil {
		c.opt.Log.Error(err, "keeping what is known of the pod", "pod", key.String())
		return false
	}
	before := c.pods.Get(key)
	if before != nil && (object == nil || string(object.UID) != before.UID) {
		c.inbounds.delete(before, change)
	}
	if object == nil {
		c.pods.Delete(key)
		c.tell(mesh.Object{Kind: mesh.KindPod, Key: key}, nil)
		return false
	}
	c.setPod(mesh.BuildPod(object))
	return true
}

// takeNamespace reads a namespace anew; it reports whether its pods may take something else.
func (c *Controller) takeNamespace(ctx context.Context, name string) (changed bool) {
	ns, err := c.opt.Source.Namespace(ctx, name)
	if err != nil {
		c.opt.Log.Error(err, "keeping what is known of the namespace", "namespace", name)
		return false
	}
	if ns == nil { // its pods are gone before it
		delete(c.inbounds.namespaces, name)
		c.tell(mesh.Object{Kind: mesh.KindNamespace, Key: mesh.Key{Name: name}}, nil)
		return false
	}
	return c.setNamespace(ns)
}
