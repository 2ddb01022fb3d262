package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/cni/api"
	"github.com/mizzen-mesh/mizzen/internal/podtest"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
)

// meshed is a pod whose node captures its traffic.
func meshed(args ...string) *corev1.Pod {
	proxy := sidecartest.Containers()[1]
	proxy.Args = append(append(proxy.Args, "--control-plane=a:1", "--"+contract.CaptureByCNIFlag), args...)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart", UID: "0c5a"},
		Spec:       corev1.PodSpec{NodeName: "n", InitContainers: []corev1.Container{proxy, {Name: "migrate"}}},
	}
}

func TestDecide(t *testing.T) {
	for _, tt := range []struct {
		name         string
		pod          *corev1.Pod
		change       func(*capture.Settings) // nil: left alone
		reason, fail string
	}{
		{name: "nothing excluded", pod: meshed(), change: func(*capture.Settings) {}},
		{
			name: "as injected", pod: meshed("--exclude-inbound-ports=15020,22", "--capture-own-calls", "--exclude-outbound-ports=25"),
			change: func(s *capture.Settings) {
				s.ExcludeInboundPorts, s.ExcludeOutboundPorts, s.CapturesOwnCalls = []uint16{22, 15020}, []uint16{25}, true
			},
		},
		{name: "bad port", pod: meshed("--exclude-inbound-ports=x"), fail: `--exclude-inbound-ports: "x": want a port number`},
		{name: "bad range", pod: meshed("--exclude-outbound-cidrs=10.0.0.0/40"), fail: `--exclude-outbound-cidrs: "10.0.0.0/40": want a CIDR`},
		{name: "no sidecar", pod: &corev1.Pod{}, reason: "it has no sidecar"},
		{name: "init container", pod: &corev1.Pod{Spec: corev1.PodSpec{InitContainers: sidecartest.Containers()}}, reason: "its init container captures the traffic"},
		{name: "on the node's network", pod: func() *corev1.Pod { p := meshed(); p.Spec.HostNetwork = true; return p }(), reason: "it has no sidecar"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stripped, err := strip(tt.pod)
			if err != nil {
				t.Fatal(err)
			}
			for _, pod := range []*corev1.Pod{tt.pod, stripped.(*corev1.Pod)} {
				got, err := Decide(pod)
				if tt.fail != "" {
					if err == nil || !strings.Contains(err.Error(), tt.fail) {
						t.Errorf("error %v, want %q", err, tt.fail)
					}
					continue
				}
				want := api.Answer{Reason: tt.reason}
				if tt.change != nil {
					s := capture.Default()
					tt.change(&s)
					want.Capture = &s
				}
				if err != nil || cmp.Diff(want, got) != "" {
					t.Errorf("%v\n%s", err, cmp.Diff(want, got))
				}
			}
		})
	}
}

func TestFind(t *testing.T) {
	client := fake.NewClientset(meshed())
	pods, err := NewPods(client, "n")
	if err != nil {
		t.Fatal(err)
	}
	// Not started: what the watch does not have yet is asked for.
	for _, tt := range []struct {
		asked api.Pod
		found bool
	}{
		{api.Pod{Namespace: "shop", Name: "cart", UID: "0c5a"}, true},
		{api.Pod{Namespace: "shop", Name: "cart"}, true},
		{api.Pod{Namespace: "shop", Name: "cart", UID: "another"}, false},
		{api.Pod{Namespace: "shop", Name: "none"}, false},
	} {
		if pod, err := pods.Find(t.Context(), tt.asked); err != nil || (pod != nil) != tt.found {
			t.Errorf("%+v: %v, %v", tt.asked, pod, err)
		}
	}
}

func TestServer(t *testing.T) {
	dir := t.TempDir()
	reports := map[string]int{}
	serve := func(word string) (stop func()) {
		l, err := Listen(dir, word)
		if err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: (&Server{
			Word: word, Log: slog.New(slog.DiscardHandler),
			Captured: func() { reports["captured"]++ }, Failed: func() { reports["failed"]++ },
			Find: func(_ context.Context, p api.Pod) (*corev1.Pod, error) {
				switch p.Name {
				case "cart":
					return meshed(), nil
				case "bad":
					return meshed("--exclude-inbound-ports=x"), nil
				case "gone":
					return nil, nil
				}
				return nil, errors.New("no API server")
			},
		}).Handler()}
		go func() { _ = s.Serve(l) }()
		t.Cleanup(func() { _ = s.Close() })
		return func() { _ = s.Close() }
	}
	stop := serve("first")
	client := api.Client{Socket: filepath.Join(dir, SocketName)}
	ask := func(name string) string {
		a, err := client.Ask(t.Context(), api.Pod{Namespace: "shop", Name: name})
		var refused *api.StatusError
		if errors.As(err, &refused) {
			return fmt.Sprintf("%d %s", refused.Code, refused.Text)
		}
		return fmt.Sprintf("%t %s", a.Capture != nil, a.Reason)
	}
	got := map[string]string{}
	for _, name := range []string{"cart", "bad", "gone", "unknown"} {
		got[name] = ask(name)
	}
	if diff := cmp.Diff(map[string]string{
		"cart": "true ", "gone": "false the API server does not know the pod", "unknown": "503 no API server",
		"bad": `422 the sidecar's arguments: --exclude-inbound-ports: "x": want a port number, 1 to 65535`,
	}, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, failed := range []bool{false, true, true} {
		if err := client.Tell(t.Context(), api.Report{Error: failed}); err != nil {
			t.Error(err)
		}
	}
	if reports["captured"] != 1 || reports["failed"] != 2 {
		t.Errorf("%v", reports)
	}
	if info, err := os.Stat(client.Socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}

	if Succeeded(t.Context(), dir, "first") {
		t.Error("it has a successor before there is one")
	}
	serve("second")
	stop()
	if !Succeeded(t.Context(), dir, "first") || ask("cart") != "true " {
		t.Error("the successor does not answer after the end of the first")
	}
}

func TestSandboxes(t *testing.T) {
	proc := t.TempDir()
	process1 := func(pid int, start uint64, cgroup string) {
		dir := filepath.Join(proc, fmt.Sprint(pid))
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		stat := fmt.Sprintf("%d (a) b) (c) S %s%d 0 0\n", pid, strings.Repeat("1 ", 18), start)
		for name, content := range map[string]string{"cgroup": cgroup, "stat": stat} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	const a, b = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"
	process1(30, 100, "0::/kubepods/burstable/pod"+a+"/sandbox\n")
	process1(20, 200, "0::/../pod"+a+"/app\n") // the numbers have begun anew
	process1(40, 300, "4:memory:/x/kubepods-pod"+strings.ReplaceAll(b, "-", "_")+".slice/cri-containerd-1.scope\n")
	process1(50, 1, "0::/system.slice/containerd.service\n")
	process1(60, 1, "0::/kubepods/pod0123456789abcdef0123456789abcdef/static\n")
	got, err := sandboxes(proc)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]process{a: {30, 100}, b: {40, 300}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(process{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// The node learns of a pod of the injector, whatever has become of it, what it would learn of the whole one.
func TestReadersMissNothingOfWatchedPods(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	captures, starts := 0, 0
	for i := range 200 {
		whole, err := podtest.Random(r, i)
		if err != nil {
			t.Fatal(err)
		}
		object, err := strip(whole)
		if err != nil {
			t.Fatal(err)
		}
		kept := object.(*corev1.Pod)
		want, err := Decide(whole)
		got, gotErr := Decide(kept)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || err != nil || gotErr != nil {
			t.Errorf("Decide: %v, %v, -whole +watched\n%s", err, gotErr, diff)
		}
		if sidecar.CapturedByCNI(whole) != sidecar.CapturedByCNI(kept) || started(whole) != started(kept) || whole.Status.Phase != kept.Status.Phase ||
			cmp.Diff(reference(whole), reference(kept)) != "" {
			t.Errorf("of %+v is left %+v", whole, kept)
		}
		if want.Capture != nil {
			captures++
		}
		if started(whole) {
			starts++
		}
	}
	if captures == 0 || starts == 0 {
		t.Errorf("%d pods are captured and %d started, so that it is not tested", captures, starts)
	}
}
