package kubecache_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
	identitykube "github.com/mizzen-mesh/mizzen/internal/identity/kube"
	"github.com/mizzen-mesh/mizzen/internal/kubecache"
	"github.com/mizzen-mesh/mizzen/internal/kubetest"
	"github.com/mizzen-mesh/mizzen/internal/podtest"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Each reader of cached pods learns of a pod of the injector, whatever has become of it, what it would learn of the whole one.
func TestReadersMissNothingOfCachedPods(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	pods := make([]*corev1.Pod, 400)
	for i := range pods {
		var err error
		if pods[i], err = podtest.Random(r, i); err != nil {
			t.Fatalf("pod %d: %v", i, err)
		}
	}
	kept, whole := cached(t, pods, kubecache.Options()), cached(t, pods, cache.Options{})
	t.Run("mesh", func(t *testing.T) { meshReads(t, pods, kept) })
	t.Run("identity", func(t *testing.T) { identityReads(t, pods, kept, whole) })
	t.Run("sidecar", func(t *testing.T) { sidecarReads(t, pods, kept) })
}

func meshReads(t *testing.T, pods []*corev1.Pod, kept cache.Cache) {
	seen := map[string]int{}
	for _, pod := range pods {
		want, got := mesh.BuildPod(pod), mesh.BuildPod(get(t, kept, pod))
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("BuildPod, -whole +cached\n%s", diff)
		}
		for trait, has := range map[string]bool{
			"meshed": want.Meshed, "without a sidecar": !sidecar.Has(pod), "on its way out": want.Terminating && want.Meshed,
			"of the node's network": want.HostNetwork, "labels": want.Labels != nil, "mode": want.MTLS.Mode != "", "port modes": want.MTLS.Ports != nil,
			"problems": want.Problems != nil, "named ports": len(want.Ports) > 1, "two addresses": len(want.IPs) == 2,
			"excluded": len(want.PlainPorts) > 1, "captured by the node": sidecar.CapturedByCNI(pod),
		} {
			if has {
				seen[trait]++
			} else {
				seen[trait] += 0
			}
		}
	}
	for trait, n := range seen {
		if n == 0 || n == len(pods) {
			t.Errorf("%s: %d of %d pods, so that it is not tested", trait, n, len(pods))
		}
	}
}

func identityReads(t *testing.T, pods []*corev1.Pod, kept, whole cache.Cache) {
	cached, all := &identitykube.Pods{Cache: kept, Live: none{kept}}, &identitykube.Pods{Cache: whole, Live: none{whole}}
	starting, addresses, found := map[string]int{}, map[netip.Addr]bool{}, 0
	for _, pod := range pods {
		want, err := all.Pod(t.Context(), pod.Namespace, pod.Name, string(pod.UID))
		got, gotErr := cached.Pod(t.Context(), pod.Namespace, pod.Name, string(pod.UID))
		if err != nil || gotErr != nil || want.Ended != got.Ended || want.ServiceAccount != got.ServiceAccount || !slices.Equal(want.IPs, got.IPs) {
			t.Errorf("Pod %s: %+v, %v, want %+v, %v", pod.Name, got, gotErr, want, err)
		}
		for _, ip := range pod.Status.PodIPs {
			addresses[netip.MustParseAddr(ip.IP)] = true
		}
		if bundle, ok := sidecar.TrustBundle(&pod.Spec); ok && pod.Status.Phase == corev1.PodPending {
			starting[api.Version(bundle)]++
		}
	}
	for a := range addresses {
		want, ok := all.At(t.Context(), a)
		if got, gotOK := cached.At(t.Context(), a); got != want || gotOK != ok {
			t.Errorf("At %s: %+v, %v, want %+v, %v", a, got, gotOK, want, ok)
		}
		if ok && want != (issuer.Caller{}) {
			found++
		}
	}
	if found == 0 || found == len(addresses) {
		t.Errorf("%d of %d addresses have one pod, so that At is not tested", found, len(addresses))
	}
	got, err := cached.Starting(t.Context())
	if err != nil || !maps.Equal(got, starting) || len(got) != len(podtest.Bundles) {
		t.Errorf("Starting: %v, %v, want %v, of %d bundles", got, err, starting, len(podtest.Bundles))
	}
}

func sidecarReads(t *testing.T, pods []*corev1.Pod, kept cache.Cache) {
	for _, pod := range pods {
		cached := get(t, kept, pod)
		want, err := sidecar.Captured(&pod.Spec)
		got, gotErr := sidecar.Captured(&cached.Spec)
		if sidecar.Has(pod) != sidecar.Has(cached) || sidecar.CapturedByCNI(pod) != sidecar.CapturedByCNI(cached) || !reflect.DeepEqual(want, got) || err != nil || gotErr != nil {
			t.Errorf("%s: captured is %+v, %v, want %+v, %v", pod.Name, got, gotErr, want, err)
		}
	}
}

// What nobody reads is not kept.
func TestCachedPodsAreSmall(t *testing.T) {
	pod := &corev1.Pod{}
	pod.Annotations = map[string]string{"example.com/note": "x"}
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
	pod.Spec = corev1.PodSpec{
		NodeName: "n", Volumes: []corev1.Volume{{Name: "data"}}, InitContainers: []corev1.Container{{Name: "migrate", Args: []string{"x"}}},
		Containers: []corev1.Container{{Name: "app", Image: "x", Env: []corev1.EnvVar{{Name: "A", Value: "x"}}, Ports: []corev1.ContainerPort{{ContainerPort: 80}}}},
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app"}}
	if kept, err := kubecache.Pod(pod); err != nil || cmp.Diff(&corev1.Pod{}, kept) != "" {
		t.Errorf("%v; kept is\n%s", err, cmp.Diff(&corev1.Pod{}, kept))
	}
}

// cached returns a real cache with these pods, indexed as the process does it.
func cached(t *testing.T, pods []*corev1.Pod, o cache.Options) cache.Cache {
	t.Helper()
	cluster, err := kubetest.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, pod := range pods {
		if err := cluster.Apply(pod); err != nil {
			t.Fatal(err)
		}
	}
	c, err := cluster.CacheWith(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := identitykube.IndexAddresses(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.Start(t.Context()) }()
	if !c.WaitForCacheSync(t.Context()) {
		t.Fatal("the cache is not filled")
	}
	return c
}

func get(t *testing.T, c client.Reader, of *corev1.Pod) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := c.Get(t.Context(), client.ObjectKeyFromObject(of), pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// none fails where the cache should have been enough.
type none struct{ client.Reader }

func (none) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	panic("the API server was asked for a pod that is in the cache")
}
