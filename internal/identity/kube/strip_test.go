package kube_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/internal/identity/kube"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// The control plane sees pods as Strip leaves them. One that is taken for a pod without a sidecar there is sent plain
// text.
func TestStripLeavesWhatTheMeshReads(t *testing.T) {
	files, err := filepath.Glob("../../../webhook/testdata/*/out.yaml")
	if err != nil {
		t.Fatal(err)
	}
	meshed := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{}
		if yaml.Unmarshal(text, pod) != nil || !sidecar.Has(pod) {
			continue
		}
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}, {IP: "fd00::1"}}}
		for name, annotations := range map[string]map[string]string{"": pod.Annotations, ", annotations taken away": nil} {
			pod.Annotations = annotations
			stripped, err := kube.Strip(pod)
			if err != nil {
				t.Fatal(err)
			}
			want, got := mesh.BuildPod(pod), mesh.BuildPod(stripped.(*corev1.Pod))
			if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("%s%s, -whole +stripped\n%s", file, name, diff)
			}
			if want.Meshed {
				meshed++
			}
		}
	}
	if meshed == 0 {
		t.Error("no pod with an identity among the injector's")
	}
}
