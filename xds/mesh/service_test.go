package mesh

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Annotations of a Service count where they are asked for, and are not looked at elsewhere.
func TestAnnotationsOfAService(t *testing.T) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", Annotations: map[string]string{
			config.AnnotationTimeout: "5s", config.AnnotationRetryOn: "always",
		}},
		Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.0.0.1"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}
	got, problems := BuildService(svc, Options{})
	if got.Calls.Timeout != nil || len(problems) > 0 {
		t.Errorf("not asked for: %+v, problems %v", got.Calls, problems)
	}
	got, problems = BuildService(svc, Options{Calls: true})
	if d := got.Calls.Timeout; d == nil || *d != 5*time.Second || len(problems) != 1 || problems[0].Value != "always" {
		t.Errorf("asked for: %+v, problems %v", got.Calls, problems)
	}
}
