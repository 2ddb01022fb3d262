package status

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

var (
	before = metav1.NewTime(time.Unix(1000, 0))
	now    = metav1.NewTime(time.Unix(2000, 0))
)

func ref(name string) gatewayv1.ParentReference {
	return gatewayv1.ParentReference{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: gatewayv1.ObjectName(name)}
}

func condition(t string, status metav1.ConditionStatus, generation int64, since metav1.Time) metav1.Condition {
	return metav1.Condition{Type: t, Status: status, Reason: "Reason", Message: "message", ObservedGeneration: generation, LastTransitionTime: since}
}

func parent(name string, controller gatewayv1.GatewayController, conditions ...metav1.Condition) gatewayv1.RouteParentStatus {
	return gatewayv1.RouteParentStatus{ParentRef: ref(name), ControllerName: controller, Conditions: conditions}
}

func want(generation int64, accepted bool) mesh.Status {
	return mesh.Status{Ref: ref("web"), Generation: generation, Conditions: []mesh.Condition{
		{Type: gatewayv1.RouteConditionAccepted, True: accepted, Reason: "Reason", Message: "message"},
	}}
}

func TestMerge(t *testing.T) {
	type parents = []gatewayv1.RouteParentStatus
	foreign := parent("web", "other.example/controller", condition("Accepted", metav1.ConditionFalse, 1, before))
	for name, test := range map[string]struct {
		current parents
		wanted  []mesh.Status
		out     parents
	}{
		"nothing": {out: parents{}},
		"first": {
			wanted: []mesh.Status{want(1, true)},
			out:    parents{parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, now))},
		},
		"unchanged keeps its time": {
			current: parents{parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before))},
			wanted:  []mesh.Status{want(1, true)},
			out:     parents{parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before))},
		},
		"another generation keeps the time, too": {
			current: parents{parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before))},
			wanted:  []mesh.Status{want(2, true)},
			out:     parents{parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 2, before))},
		},
		"another status is a transition": {
			current: parents{parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before))},
			wanted:  []mesh.Status{want(1, false)},
			out:     parents{parent("web", ControllerName, condition("Accepted", metav1.ConditionFalse, 1, now))},
		},
		"other controllers' entries stay, of the same parent too": {
			current: parents{foreign},
			wanted:  []mesh.Status{want(1, true)},
			out:     parents{foreign, parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, now))},
		},
		"a parent no longer named": {
			current: parents{parent("old", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before)), foreign},
			out:     parents{foreign},
		},
		"others' conditions in our entry stay, ours that no longer hold go": {
			current: parents{parent("web", ControllerName,
				condition("Accepted", metav1.ConditionTrue, 1, before), condition("PartiallyInvalid", metav1.ConditionTrue, 1, before),
				condition("other.example/Policy", metav1.ConditionTrue, 1, before))},
			wanted: []mesh.Status{want(1, true)},
			out: parents{parent("web", ControllerName,
				condition("Accepted", metav1.ConditionTrue, 1, before), condition("other.example/Policy", metav1.ConditionTrue, 1, before))},
		},
		"doubles of ours are one": {
			current: parents{
				parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before)),
				parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before)),
			},
			wanted: []mesh.Status{want(1, true)},
			out:    parents{parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before))},
		},
		"equal references, which a schema may let through, have an entry each": {
			current: parents{
				parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before)),
				parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before)),
			},
			wanted: []mesh.Status{want(1, true), want(1, true)},
			out: parents{
				parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before)),
				parent("web", ControllerName, condition("Accepted", metav1.ConditionTrue, 1, before)),
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.out, merge(test.current, test.wanted, 32, now)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestMessageFits(t *testing.T) {
	w := want(1, false)
	w.Conditions[0].Message = strings.Repeat("é", 40000)
	got := merge(nil, []mesh.Status{w}, 32, now)[0].Conditions[0].Message
	if n := len([]rune(got)); n > 32768 || !strings.HasSuffix(got, " …") {
		t.Errorf("%d characters, ends with %q", n, got[len(got)-6:])
	}
}
