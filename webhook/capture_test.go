package webhook

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestCaptureResources(t *testing.T) {
	list := func(pairs ...string) corev1.ResourceList {
		var out corev1.ResourceList
		for i := 0; i < len(pairs); i += 2 {
			if out == nil {
				out = corev1.ResourceList{}
			}
			out[corev1.ResourceName(pairs[i])] = resource.MustParse(pairs[i+1])
		}
		return out
	}
	of := func(requests, limits corev1.ResourceList) corev1.ResourceRequirements {
		return corev1.ResourceRequirements{Requests: requests, Limits: limits}
	}
	for name, c := range map[string]struct{ app, want corev1.ResourceRequirements }{
		"none":                        {of(nil, nil), of(nil, nil)},
		"requests":                    {of(list("cpu", "1", "memory", "1Gi"), nil), of(list("cpu", "1", "memory", "1Gi"), nil)},
		"limits alone":                {of(nil, list("cpu", "1")), of(nil, list("cpu", "1"))},
		"devices stay where they are": {of(list("cpu", "1", "example.com/gpu", "2"), list("example.com/gpu", "2")), of(list("cpu", "1"), nil)},
		"too little to run":           {of(list("memory", "4Mi"), list("memory", "8Mi")), of(list("memory", "4Mi"), list("memory", "32Mi"))},
		"Guaranteed, too little":      {of(list("cpu", "10m", "memory", "8Mi"), list("cpu", "10m", "memory", "8Mi")), of(list("cpu", "10m", "memory", "32Mi"), list("cpu", "10m", "memory", "32Mi"))},
	} {
		t.Run(name, func(t *testing.T) {
			got := captureResources([]corev1.Container{{Resources: c.app}, {Resources: of(list("cpu", "5"), nil)}})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
