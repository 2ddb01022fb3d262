package loadbalancer

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"
)

func lbService(uid, requests string, has ...string) *corev1.Service {
	s := &corev1.Service{}
	s.UID = types.UID(uid)
	s.Spec.LoadBalancerIP = requests
	for _, a := range has {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
	}
	return s
}

func TestBalancer(t *testing.T) {
	pool, err := NewPool(netip.MustParsePrefix("10.0.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	keep(pool, lbService("old", "", "10.0.0.1"))
	keep(pool, lbService("moved", "", "10.9.0.1")) // of another range
	b := balancer{pool}
	for _, tc := range []struct {
		service *corev1.Service
		want    string
	}{
		{lbService("new", ""), "10.0.0.2"},
		{lbService("old", ""), "10.0.0.1"},
		{lbService("moved", ""), "10.0.0.3"},
		{lbService("asks", "10.0.0.200"), "10.0.0.200"},
		{lbService("asks too much", "192.0.2.1"), ""},
		{lbService("asks nonsense", "here"), ""},
	} {
		got, err := b.EnsureLoadBalancer(t.Context(), "", tc.service, nil)
		switch {
		case tc.want == "":
			if err == nil {
				t.Errorf("%s: got %v", tc.service.UID, got)
			}
		case err != nil:
			t.Errorf("%s: %v", tc.service.UID, err)
		case got.Ingress[0].IP != tc.want || *got.Ingress[0].IPMode != corev1.LoadBalancerIPModeVIP:
			t.Errorf("%s: got %v, want %s", tc.service.UID, got.Ingress, tc.want)
		}
	}
	gone := lbService("old", "")
	if err := b.EnsureLoadBalancerDeleted(t.Context(), "", gone); err != nil {
		t.Error(err)
	}
	if _, exists, err := b.GetLoadBalancer(t.Context(), "", gone); err != nil || exists {
		t.Errorf("deleted, but exists: %v, %v", exists, err)
	}
}

// The whole of it: addresses appear in the status, follow the spec, and are free again when a Service is gone.
func TestController(t *testing.T) {
	pool, err := NewPool(netip.MustParsePrefix("10.0.0.0/24"))
	if err != nil {
		t.Fatal(err)
	}
	client := fake.NewClientset()
	if err := start(t.Context(), client, pool); err != nil {
		t.Fatal(err)
	}
	services := client.CoreV1().Services("default")
	create := func(name string, spec corev1.ServiceSpec) {
		t.Helper()
		s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", UID: types.UID(name)}, Spec: spec}
		if _, err := services.Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	await := func(name, want string) {
		t.Helper()
		var got string
		for range 100 {
			s, err := services.Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got = ""; len(s.Status.LoadBalancer.Ingress) == 1 {
				got = s.Status.LoadBalancer.Ingress[0].IP
			}
			if got == want {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("%s: got %q, want %q", name, got, want)
	}
	create("inside", corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP})
	create("other", corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: ptr.To("other")})
	create("unusable", corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, LoadBalancerIP: "192.0.2.1"})
	create("any", corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer})
	await("any", "10.0.0.1")
	for _, name := range []string{"inside", "other", "unusable"} {
		await(name, "")
	}
	patch := []byte(`{"spec": {"loadBalancerIP": "10.0.0.254"}}`)
	if _, err := services.Patch(t.Context(), "unusable", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await("unusable", "10.0.0.254")
	if _, err := services.Patch(t.Context(), "any", types.MergePatchType, []byte(`{"spec": {"type": "ClusterIP"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	await("any", "")
	if _, ok := pool.Of("any"); ok {
		t.Error("the address is not free again")
	}
}
