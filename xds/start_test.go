package xds_test

import (
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/translate"
)

// At the start resources are marshalled in parts. At no time is there more in memory than half of what all of them take at once.
func TestStartInParts(t *testing.T) {
	const services = 2000
	live := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	// most builds everything and returns the most that was alive when a part was published, beyond what was before.
	most := func(n int) uint64 {
		tr, store := translate.New(config.Default()), server.NewStore()
		for i := range services {
			ip := fmt.Sprintf("10.96.%d.%d", i/250, i%250+1)
			meta := metav1.ObjectMeta{Namespace: fmt.Sprint("ns-", i%20), Name: fmt.Sprint("svc-", i)}
			tr.Set(&corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
				ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}, {Name: "grpc", Port: 81}},
			}})
			meta.Labels = map[string]string{discoveryv1.LabelServiceName: meta.Name}
			tr.Set(&discoveryv1.EndpointSlice{
				ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}},
				Endpoints: []discoveryv1.Endpoint{{Addresses: []string{fmt.Sprintf("10.1.%d.%d", i/250, i%250)}}},
			})
		}
		before, peak := live(), uint64(0)
		publish := func(c envoy.Change) {
			peak = max(peak, live()-before)
			if _, err := store.Apply(c); err != nil {
				t.Fatal(err)
			}
		}
		publish(tr.BuildInParts(n, publish).Change)
		runtime.KeepAlive(tr)
		return peak
	}
	whole, inParts := most(services), most(50)
	t.Logf("%d kB at most, %d kB in one", inParts>>10, whole>>10)
	if inParts > whole/2 {
		t.Errorf("%d kB in parts of 50 Services, %d kB in one", inParts>>10, whole>>10)
	}
}
