package status

import (
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// reader reads policies from an API server in memory.
type reader struct {
	t *testing.T
	client.Client
}

func (r reader) Object(id mesh.ID) client.Object {
	o := &v1alpha1.AuthorizationPolicy{}
	if err := r.Get(r.t.Context(), client.ObjectKey{Namespace: id.Namespace, Name: id.Name}, o); err != nil {
		return nil
	}
	return o
}

func (r reader) Objects(mesh.Kind, string) []client.Object { return nil }

// Conditions of a policy stand in its status itself; those of others stay, and nothing is written twice.
func TestStatusOfPolicies(t *testing.T) {
	theirs := metav1.Condition{Type: "Audited", Status: metav1.ConditionTrue, Reason: "Good", LastTransitionTime: metav1.NewTime(time.Unix(1e9, 0))}
	o := &v1alpha1.AuthorizationPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "a", Generation: 2},
		Status:     v1alpha1.AuthorizationPolicyStatus{Conditions: []metav1.Condition{theirs}},
	}
	r := reader{t, fake.NewClientBuilder().WithScheme(kubescheme.New()).WithObjects(o).WithStatusSubresource(o).Build()}
	w := New(Options{Source: r, Client: r, Log: logr.Discard()})
	id := mesh.ID{Kind: mesh.KindAuthorizationPolicy, Key: mesh.Key{Namespace: "shop", Name: "a"}}
	say := func(generation int64, ok bool, message string) bool {
		t.Helper()
		w.SetWhole([]mesh.Status{{Object: id, Generation: generation, Conditions: []mesh.Condition{{
			Type: v1alpha1.ConditionAccepted, True: ok, Reason: gatewayv1.RouteConditionReason(v1alpha1.ReasonAccepted), Message: message,
		}}}})
		written, err := w.write(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		return written
	}
	if !say(2, true, "all is well") || say(2, true, "all is well") {
		t.Error("want one write for what is said twice")
	}
	if say(1, false, "as it was before") {
		t.Error("written for another generation")
	}
	got := r.Object(id).(*v1alpha1.AuthorizationPolicy).Status.Conditions
	if len(got) != 2 || got[0].Type != "Audited" {
		t.Fatalf("%+v", got)
	}
	got[1].LastTransitionTime = metav1.Time{}
	want := metav1.Condition{Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", Message: "all is well", ObservedGeneration: 2}
	if diff := cmp.Diff(want, got[1]); diff != "" {
		t.Error(diff)
	}
	w.Forget(id)
	if len(w.wanted) != 0 {
		t.Errorf("%v", w.wanted)
	}
}
