package translate

import (
	"maps"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
		// port names of the Service and of its slice; "" if it is deleted.
		service, slice string
		// atOnce: what is published is another before the Service is; endpoints: there are some after it.
		atOnce, endpoints bool
	}{
		"none ready": {service: "http", slice: "empty", atOnce: true},
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
			switch test.slice {
			case "":
				id, _ := IDOf(slice)
				f.Delete(id)
			case "empty":
				empty := sliceOf(key, "http", "", "10.1.0.1")
				empty.Endpoints, empty.Ports = nil, nil // what Kubernetes leaves of a Service without pods
				f.Set(empty)
			default:
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

// What is told of a deleted Service may come in any order: its last EndpointSlice may go before the Service does, and before the route
// that has sent there. While a slice of the address type is left, what is gone goes at once.
func TestLastEndpointSlice(t *testing.T) {
	key := mesh.Key{Namespace: "shop", Name: "v1"}
	first, second := sliceOf(key, "http", "", "10.1.0.1"), sliceOf(key, "http", "", "10.1.0.2")
	second.Name += "-2"
	f := newFollower(t, config.Default(), serviceOn(key, "http"), first, second)
	both := f.assignments()
	gone := func(o metav1.Object) (held bool) {
		id, _ := IDOf(o)
		f.Delete(id)
		return f.urgent()
	}
	if held := gone(first); held {
		t.Error("with a slice left, the Service is held")
	}
	one := f.assignments()
	if maps.Equal(one, both) {
		t.Error("what is gone is still published, with a slice left")
	}
	if held := gone(second); !held {
		t.Error("the Service is not held, and nothing would publish that it has no endpoints")
	}
	if now := f.assignments(); !maps.Equal(now, one) {
		t.Errorf("without a slice: published at once: %v", now)
	}
	f.take(f.Build())
	if now := f.assignments(); maps.Equal(now, one) {
		t.Error("a Service without a slice keeps its endpoints")
	}
	f.urgent(second)
	if now := f.assignments(); !maps.Equal(now, one) {
		t.Errorf("a slice that comes again: published %v, want %v", now, one)
	}
}

// Ports with new names may be heard of in the Service or in its EndpointSlices first. What is published stays until the other side is
// heard of, and does not for ever.
func TestRenamedPorts(t *testing.T) {
	key := mesh.Key{Namespace: "shop", Name: "v1"}
	before, after := serviceOn(key, "http"), serviceOn(key, "http-web")
	lateSlice := sliceOf(key, "http-web", "", "10.1.0.2")
	start := func(t *testing.T) (*follower, map[string]string) {
		f := newFollower(t, config.Default(), before, sliceOf(key, "http", "", "10.1.0.1"))
		return f, f.assignments()
	}
	t.Run("slice first", func(t *testing.T) {
		f, published := start(t)
		if held := f.urgent(lateSlice); !held || !maps.Equal(f.assignments(), published) {
			t.Errorf("held: %v; published: %v", held, f.assignments())
		}
		f.Set(after)
		f.take(f.Build())
		if now := f.assignments(); maps.Equal(now, published) || f.Waiting() || f.Lagging() {
			t.Errorf("the new endpoints are not published with the Service: %v", now)
		}
	})
	t.Run("Service first", func(t *testing.T) {
		f, published := start(t)
		f.Set(after)
		f.take(f.Build())
		if now := f.assignments(); !maps.Equal(now, published) || !f.Lagging() || f.Waiting() {
			t.Errorf("published before the slices follow: %v, lagging: %v", now, f.Lagging())
		}
		if held := f.urgent(lateSlice); !held || !maps.Equal(f.assignments(), published) {
			t.Errorf("held: %v; published: %v", held, f.assignments())
		}
		f.take(f.Build())
		if now := f.assignments(); maps.Equal(now, published) || f.Lagging() {
			t.Errorf("the new endpoints are not published with the Service: %v", now)
		}
	})
	t.Run("Service alone", func(t *testing.T) {
		f, published := start(t)
		f.Set(after)
		f.take(f.Build())
		f.Overdue()
		f.take(f.Build())
		if now := f.assignments(); maps.Equal(now, published) || f.Lagging() || f.Waiting() {
			t.Errorf("a Service whose slices never follow: %v, lagging: %v", now, f.Lagging())
		}
	})
	t.Run("back again", func(t *testing.T) {
		f, published := start(t)
		f.Set(after)
		f.take(f.Build())
		f.Set(before)
		f.take(f.Build())
		if now := f.assignments(); !maps.Equal(now, published) || f.Lagging() {
			t.Errorf("published: %v, lagging: %v", now, f.Lagging())
		}
	})
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
