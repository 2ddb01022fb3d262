package mesh

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// A good annotation counts, a bad one is told and left out.
func TestAnnotationsOfAService(t *testing.T) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", Annotations: map[string]string{
			config.AnnotationTimeout: "5s", config.AnnotationRetryOn: "always",
		}},
		Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.0.0.1"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	got, problems := BuildService(svc, Options{})
	if d := got.Calls.Timeout; d == nil || *d != 5*time.Second || len(problems) != 1 || problems[0].Value != "always" {
		t.Errorf("got %+v, problems %v", got.Calls, problems)
	}
}
