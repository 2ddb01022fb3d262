package xds_test

import (
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/translate"
)

// The routes of examples/gateway are accepted, with all that they refer to.
func TestGatewayExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/gateway/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal("no examples", err)
	}
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "mizzen"}}
	class.Spec.ControllerName = config.ControllerName
	objects := []metav1.Object{class, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}}
	for name, port := range map[string]int32{"cart": 80, "cart-next": 80, "orders": 9090, "ledger": 8443, "postgres": 5432} {
		svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
		svc.Spec.ClusterIPs, svc.Spec.Ports = []string{"10.96.0.1"}, []corev1.ServicePort{{Port: port}}
		objects = append(objects, svc)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, read(t, text)...)
	}
	routes := 0
	for _, list := range translate.All(config.Default(), objects...).Statuses {
		for _, s := range list {
			if s.Object.Kind == mesh.KindGateway { // the Secret is the user's to make
				continue
			}
			routes++
			for _, c := range s.Conditions {
				if c.Bad() {
					t.Errorf("%s: %s: %s", s.Object, c.Type, c.Message)
				}
			}
		}
	}
	if routes != 6 {
		t.Errorf("%d routes have a status, want 6", routes)
	}
}
