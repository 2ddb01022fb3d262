package translate

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Result holds what has changed since the previous Result. Change is published first, then the statuses.
type Result struct {
	Change envoy.Change
	// Statuses of the routes and policies that name a Service or a Gateway, by that object, and those of Gateways and ListenerSets, by
	// the Gateway. They replace all earlier ones of that object.
	Statuses map[mesh.ID][]mesh.Status
	// GatewayPorts are those of the Services of Gateways of our controller; nil for a Gateway that is gone, and for no other.
	GatewayPorts map[mesh.Key][]mesh.GatewayPort
	// GatewayErrors says why a Gateway could not be built. What is published for it stays.
	GatewayErrors map[mesh.Key]error
	// PolicyStatuses are those of AuthorizationPolicies, which name no Service. They replace the policy's earlier one.
	PolicyStatuses []mesh.Status
	// DeletedPolicies are applied before PolicyStatuses: a policy that was deleted and created again is in both.
	DeletedPolicies []mesh.ID
	// Problems replace the earlier ones of the object. An empty list means that the object has no problems any more.
	Problems map[mesh.ID][]mesh.Problem
	// Reconnect are Services whose pods' policies have changed. The caller passes them to Translator.Reconnect once
	// sidecars have had the time to take the policies.
	Reconnect sets.Set[mesh.Key]
	// Errors says why a Service could not be built. What is published for the Service stays, and the next Build tries again.
	Errors map[mesh.Key]error
}

// All returns the result for a list of objects in any order. It ignores kinds that the mesh is not built from.
func All(cfg *config.Mesh, objects ...metav1.Object) *Result {
	t := New(cfg)
	for _, o := range objects {
		t.Set(o)
	}
	return t.Build()
}

func newResult() *Result {
	return &Result{Statuses: map[mesh.ID][]mesh.Status{}, GatewayPorts: map[mesh.Key][]mesh.GatewayPort{}, GatewayErrors: map[mesh.Key]error{}, Reconnect: sets.Set[mesh.Key]{}, Errors: map[mesh.Key]error{}}
}
