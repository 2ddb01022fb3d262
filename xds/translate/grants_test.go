package translate

import (
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A ReferenceGrant that comes, changes and goes holds the parents of routes that send to its namespace.
func TestGrants(t *testing.T) {
	parent, backend := mesh.Key{Namespace: "shop", Name: "cart"}, mesh.Key{Namespace: "store", Name: "stock"}
	route := routeTo("to-stock")
	route.Namespace = parent.Namespace
	ref := &route.Spec.Rules[0].BackendRefs
	*ref = []gatewayv1.HTTPBackendRef{{}}
	(*ref)[0].Name, (*ref)[0].Namespace, (*ref)[0].Port = "stock", new(gatewayv1.Namespace(backend.Namespace)), new(gatewayv1.PortNumber(80))
	grant := func(from gatewayv1.Namespace) *gatewayv1.ReferenceGrant {
		return &gatewayv1.ReferenceGrant{
			ObjectMeta: metav1.ObjectMeta{Namespace: backend.Namespace, Name: "grant"},
			Spec: gatewayv1.ReferenceGrantSpec{
				From: []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: "HTTPRoute", Namespace: from}},
				To:   []gatewayv1.ReferenceGrantTo{{Kind: "Service"}},
			},
		}
	}
	tr := New(config.Default())
	tr.Set(serviceOn(parent, "http"))
	tr.Set(serviceOn(backend, "http"))
	tr.Set(route)
	for _, step := range []struct {
		name   string
		change func()
		want   gatewayv1.RouteConditionReason
	}{
		{"no grant", func() {}, "RefNotPermitted"},
		{"a grant", func() { tr.Set(grant("shop")) }, "ResolvedRefs"},
		{"for another namespace", func() { tr.Set(grant("elsewhere")) }, "RefNotPermitted"},
		{"for this one again", func() { tr.Set(grant("shop")) }, "ResolvedRefs"},
		{"deleted", func() {
			id, _ := IDOf(grant("shop"))
			tr.Delete(id)
		}, "RefNotPermitted"},
	} {
		step.change()
		var got []gatewayv1.RouteConditionReason
		for _, status := range tr.Build().Statuses[mesh.ID{Kind: mesh.KindService, Key: parent}] {
			for _, c := range status.Conditions {
				if c.Type == gatewayv1.RouteConditionResolvedRefs {
					got = append(got, c.Reason)
				}
			}
		}
		if !slices.Equal(got, []gatewayv1.RouteConditionReason{step.want}) {
			t.Errorf("%s: ResolvedRefs says %v, want %s", step.name, got, step.want)
		}
	}
}
