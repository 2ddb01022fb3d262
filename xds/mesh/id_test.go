package mesh_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

func TestSameIntent(t *testing.T) {
	before := metav1.ObjectMeta{UID: "a", Generation: 1, Annotations: map[string]string{"k": "v"}}
	for name, test := range map[string]struct {
		change func(*metav1.ObjectMeta)
		want   bool
	}{
		"status":           {func(o *metav1.ObjectMeta) { o.ResourceVersion = "2" }, true},
		"labels":           {func(o *metav1.ObjectMeta) { o.Labels = map[string]string{"k": "v"} }, true},
		"spec":             {func(o *metav1.ObjectMeta) { o.Generation = 2 }, false},
		"annotations":      {func(o *metav1.ObjectMeta) { o.Annotations = map[string]string{"k": "w"} }, false},
		"another object":   {func(o *metav1.ObjectMeta) { o.UID = "b" }, false},
		"of a file, twice": {func(o *metav1.ObjectMeta) { o.Generation = 0 }, false},
	} {
		now := *before.DeepCopy()
		test.change(&now)
		if got := mesh.SameIntent(&before, &now); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
	file := metav1.ObjectMeta{}
	if mesh.SameIntent(&file, &file) {
		t.Error("objects without a generation are the same")
	}
}
