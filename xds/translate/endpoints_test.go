package translate

import (
	"maps"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/translate/translatetest"
)

// assignments are what is published of endpoints, by name.
func (f *follower) assignments() map[string]string {
	out := map[string]string{}
	for id, variants := range f.resources {
		if id.Type == envoy.EndpointType {
			out[id.Name] = variants[""]
		}
	}
	return out
}

// The endpoints of a Service are urgent, but not if the Service is deleted: a route that sent there may have been changed a
// moment before, and is held. Nor if its ports have other names, by which the published ones would find no endpoints.
func TestEndpointsGoWithTheirService(t *testing.T) {
	key := mesh.Key{Namespace: "shop", Name: "v1"}
	for name, test := range map[string]struct {
		// port names of the Service and of its slice; empty for none of them.
		service, slice string
		// atOnce: what is published is another before the Service is; endpoints: there are some after it.
		atOnce, endpoints bool
	}{
		"none ready": {service: "http", atOnce: true},
		"deleted":    {},
		"renamed":    {service: "http-web", slice: "http-web", endpoints: true},
	} {
		t.Run(name, func(t *testing.T) {
			service, slice := serviceOn(key, "http"), sliceOf(key, "http", "", "10.1.0.1")
			f := newFollower(t, config.Default(), service, slice)
			before := f.assignments()
			if len(before) == 0 {
				t.Fatal("no endpoints are published")
			}
			switch test.service {
			case "http":
			case "":
				f.Delete(mesh.ID{Kind: mesh.KindService, Key: key})
			default:
				f.Set(serviceOn(key, test.service))
			}
			if test.slice == "" {
				id, _ := IDOf(slice)
				f.Delete(id)
			} else {
				f.Set(sliceOf(key, test.slice, "", "10.1.0.1"))
			}
			f.urgent()
			if now := f.assignments(); maps.Equal(now, before) == test.atOnce {
				t.Errorf("published at once: %v, before %v", now, before)
			}
			f.take(f.Build())
			if now := f.assignments(); maps.Equal(now, before) != test.endpoints || test.service == "" && len(now) > 0 {
				t.Errorf("published with the Service: %v, before %v", now, before)
			}
		})
	}
}

// An endpoint with an identity that its clusters do not know waits for the clusters.
func TestEndpointsWaitForTheirCluster(t *testing.T) {
	key := mesh.Key{Namespace: "shop", Name: "cart"}
	f := newFollower(t, config.Default(), namespace(""), translatetest.Pod("shop", "a", "first", "10.1.0.1"),
		serviceOn(key, "http"), sliceOf(key, "http", "a", "10.1.0.1"))
	before := f.assignments()
	moved := sliceOf(key, "http", "b", "10.1.0.2")
	f.urgent(moved)
	empty := f.assignments()
	if maps.Equal(empty, before) {
		t.Error("the endpoint that has gone is still published")
	}
	if held := f.urgent(translatetest.Pod("shop", "b", "second", "10.1.0.2")); !held {
		t.Error("the Service is not held")
	}
	if now := f.assignments(); !maps.Equal(now, empty) {
		t.Errorf("the endpoint is published before its cluster knows the identity: %v", now)
	}
	f.take(f.Build())
	if now := f.assignments(); maps.Equal(now, empty) {
		t.Error("the endpoint is not published with its cluster")
	}
	if held := f.urgent(translatetest.Pod("shop", "c", "second", "10.1.0.3"), sliceOf(key, "http", "c", "10.1.0.3")); held {
		t.Error("an endpoint with an identity that the cluster knows still waits")
	}
}

// A pod in a range that the outbound listener does not have is a reason to build it, the end of the last pod in one is not.
func TestRangesOfPods(t *testing.T) {
	f := newFollower(t, config.Default(), namespace(""), translatetest.Pod("shop", "a", "cart", "10.1.0.1"))
	b := translatetest.Pod("shop", "b", "cart", "10.1.1.1")
	if held := f.urgent(translatetest.Pod("shop", "c", "cart", "10.1.0.2")); held {
		t.Error("a pod in a known range is a reason")
	}
	if held := f.urgent(b); !held {
		t.Error("a new range is no reason")
	}
	f.take(f.Build())
	id, _ := IDOf(b)
	f.Delete(id)
	if held := f.urgent(); held {
		t.Error("a range without pods is a reason")
	}
}
