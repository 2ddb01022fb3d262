package mesh

import (
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Status is the wanted status of one object, for one Service that it names or for the object as a whole.
type Status struct {
	Object ID
	// Ref is a route's reference to the Service, or the ancestor of a policy. It is empty for an object as a whole.
	Ref gatewayv1.ParentReference
	// Generation of the object that Conditions are about.
	Generation int64
	Conditions []Condition
	// Gateway is what the status of a Gateway or a ListenerSet has besides.
	Gateway *GatewayStatus
	// Lost are the ports and hostnames of a route's reference where other routes have effect instead.
	Lost []Lost
}

// GatewayStatus is what the status of a Gateway or a ListenerSet has besides its conditions.
type GatewayStatus struct {
	Listeners []ListenerStatus
	// Addresses and AttachedListenerSets are of a Gateway only.
	Addresses            []gatewayv1.GatewayStatusAddress
	AttachedListenerSets int32
}

// ListenerStatus is the status of one listener.
type ListenerStatus struct {
	Name           gatewayv1.SectionName
	Kinds          []gatewayv1.RouteGroupKind
	AttachedRoutes int32
	Conditions     []Condition
}
