package mesh

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Status is what is to stand in the status of one object, with respect to one Service that it names or as a whole.
type Status struct {
	Object ID
	// Ref is the reference of a route to the Service, or the ancestor of a policy; empty for an object as a whole.
	Ref gatewayv1.ParentReference
	// Generation of the object that Conditions speak of.
	Generation int64
	Conditions []Condition
	// Lost is where among the ports of a route's reference others hold.
	Lost []Lost
}
