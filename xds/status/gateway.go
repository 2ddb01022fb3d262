package status

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// sayGateway sets the status of a Gateway or a ListenerSet.
func sayGateway(o client.Object, wanted mesh.Status, now metav1.Time) {
	g := wanted.Gateway
	switch o := o.(type) {
	case *gatewayv1.Gateway:
		before := map[gatewayv1.SectionName][]metav1.Condition{}
		for _, l := range o.Status.Listeners {
			before[l.Name] = l.Conditions
		}
		o.Status.Addresses, o.Status.Listeners = g.Addresses, []gatewayv1.ListenerStatus{}
		o.Status.AttachedListenerSets = &g.AttachedListenerSets
		o.Status.Conditions = mergeConditions(o.Status.Conditions, wanted, now)
		for _, l := range g.Listeners {
			o.Status.Listeners = append(o.Status.Listeners, gatewayv1.ListenerStatus{
				Name: l.Name, SupportedKinds: l.Kinds, AttachedRoutes: l.AttachedRoutes, Conditions: listenerConditions(before[l.Name], l, wanted, now),
			})
		}
	case *gatewayv1.ListenerSet:
		before := map[gatewayv1.SectionName][]metav1.Condition{}
		for _, l := range o.Status.Listeners {
			before[l.Name] = l.Conditions
		}
		o.Status.Listeners = nil
		o.Status.Conditions = mergeConditions(o.Status.Conditions, wanted, now)
		for _, l := range g.Listeners {
			o.Status.Listeners = append(o.Status.Listeners, gatewayv1.ListenerEntryStatus{
				Name: l.Name, SupportedKinds: l.Kinds, AttachedRoutes: l.AttachedRoutes, Conditions: listenerConditions(before[l.Name], l, wanted, now),
			})
		}
	}
}

// listenerConditions returns the conditions of a listener.
func listenerConditions(before []metav1.Condition, l mesh.ListenerStatus, of mesh.Status, now metav1.Time) []metav1.Condition {
	return mergeConditions(before, mesh.Status{Generation: of.Generation, Conditions: l.Conditions}, now)
}

// statusOf returns a copy of the status of a Gateway or a ListenerSet, to be compared, and its conditions.
func statusOf(o client.Object) (status any, conditions []metav1.Condition, ok bool) {
	switch o := o.(type) {
	case *gatewayv1.Gateway:
		return o.Status.DeepCopy(), o.Status.Conditions, true
	case *gatewayv1.ListenerSet:
		return o.Status.DeepCopy(), o.Status.Conditions, true
	}
	return nil, nil, false
}
