package mesh

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
)

// injected is a pod as the injector leaves it, running at an address.
func injected(name, ip string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: "uid-1", Annotations: map[string]string{}},
		Spec: corev1.PodSpec{
			ServiceAccountName: "cart",
			InitContainers:     sidecartest.Containers("--exclude-inbound-ports=15020,9100"),
		},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func TestBuildPod(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		want   func(*Pod)
	}{
		"meshed":      {func(*corev1.Pod) {}, func(*Pod) {}},
		"not yet run": {func(p *corev1.Pod) { p.Status = corev1.PodStatus{Phase: corev1.PodPending} }, func(p *Pod) { p.IPs = nil }},
		"ended":       {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, func(p *Pod) { p.IPs = nil }},
		"completed":   {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, func(p *Pod) { p.IPs = nil }},
		"dual-stack": {
			func(p *corev1.Pod) { p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::1"}) },
			func(p *Pod) { p.IPs = append(p.IPs, netip.MustParseAddr("fd00::1")) },
		},
		"without an account":      {func(p *corev1.Pod) { p.Spec.ServiceAccountName = "" }, func(p *Pod) { p.ServiceAccount = "default" }},
		"without the annotation":  {func(p *corev1.Pod) { p.Annotations = nil }, func(*Pod) {}}, // whoever may patch a pod can take it away
		"of an earlier version":   {func(p *corev1.Pod) { p.Spec.InitContainers[1].Env = nil }, func(p *Pod) { p.Meshed = false }},
		"with the host's network": {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, func(p *Pod) { p.Meshed, p.HostNetwork = false, true }},
		"without the sidecar": {
			func(p *corev1.Pod) { p.Spec.InitContainers = nil }, func(p *Pod) { p.Meshed, p.PlainPorts = false, nil },
		},
		"strict": {
			func(p *corev1.Pod) { p.Annotations[config.AnnotationMTLS] = "strict" }, func(p *Pod) { p.MTLS.Mode = config.Strict },
		},
		"a bad mode": {
			func(p *corev1.Pod) { p.Annotations[config.AnnotationMTLS] = "on" },
			func(p *Pod) {
				p.Problems = []Problem{{
					Object: ID{KindPod, Key{"shop", "cart-0"}}, UID: "uid-1", Reason: "BadAnnotation",
					Field: "metadata.annotations[mizzen.dev/mtls]", Value: "on", Allowed: "permissive or strict", Effect: "this annotation is ignored",
				}}
			},
		},
		"odd ports": {
			func(p *corev1.Pod) { p.Spec.InitContainers[0].Args[1] = "--exclude-inbound-ports=90,x,15020,90,70000" },
			func(p *Pod) { p.PlainPorts = []uint16{90, 15020} },
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := &Pod{
				Key: Key{"shop", "cart-0"}, UID: "uid-1", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, ServiceAccount: "cart",
				Meshed: true, PlainPorts: []uint16{9100, 15020},
			}
			c.want(want)
			if diff := cmp.Diff(want, BuildPod(injected("cart-0", "10.0.0.1", c.change)), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// BuildPod finds in pods what the injector has put there.
func TestPodsOfTheInjector(t *testing.T) {
	files, err := filepath.Glob("../../webhook/testdata/*/out.yaml")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var pod corev1.Pod
		if yaml.Unmarshal(text, &pod) != nil {
			continue
		}
		if sidecar.Proxy(&pod.Spec) == nil {
			continue // not injected
		}
		found++
		if got := BuildPod(&pod); !slices.Contains(got.PlainPorts, uint16(config.AgentPort)) {
			t.Errorf("%s: the agent's port is not among %v", file, got.PlainPorts)
		}
	}
	if found == 0 {
		t.Error("no injected pods")
	}
}

func podEndpoint(pod *corev1.Pod, ip string) discoveryv1.Endpoint {
	ep := discoveryv1.Endpoint{Addresses: []string{ip}}
	if pod != nil {
		ep.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID}
	}
	return ep
}

// identities of the endpoints of a Service whose port 80 is 8080 of its pods, or another.
func identitiesOf(t *testing.T, port int32, pods *Pods, endpoints ...discoveryv1.Endpoint) (map[string]string, []Problem) {
	t.Helper()
	svc := &Service{Key: Key{"shop", "cart"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []Port{{Number: 80}}}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1"}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Port: &port}}, Endpoints: endpoints,
	}
	byPort, problems := Endpoints(svc, []*discoveryv1.EndpointSlice{slice}, pods)
	got := map[string]string{}
	for _, e := range byPort[EndpointsKey{Service: svc.Key, Port: 80, Family: IPv4}] {
		got[e.Addr.Addr().String()] = e.Identity
	}
	return got, problems
}

// The identity of an endpoint is that of its pod; one of which it is not known is left out, and never plain.
func TestIdentitiesOfEndpoints(t *testing.T) {
	const cart = "spiffe://cluster.local/ns/shop/sa/cart"
	pod := injected("cart-0", "10.0.0.1")
	bare := injected("bare-0", "10.0.0.2", func(p *corev1.Pod) { p.Spec.InitContainers = nil })
	gateway := injected("edge-mizzen-0", "10.0.0.6", func(p *corev1.Pod) {
		p.Spec.ServiceAccountName, p.Spec.InitContainers = "edge-mizzen", nil
		p.Spec.Containers = []corev1.Container{{
			Name: config.ProxyContainer, Args: contract.Run{IdentityAddress: "a:2", Gateway: true}.Args(contract.Captured{}),
			Env: []corev1.EnvVar{{Name: contract.TrustBundleEnv, Value: "roots"}},
		}}
	})
	host := injected("host-0", "192.168.0.1", func(p *corev1.Pod) { p.Spec.HostNetwork = true })
	starting := injected("starting-0", "", func(p *corev1.Pod) { p.Status.PodIPs = nil })
	ended := injected("ended-0", "10.0.0.1", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded })
	other := injected("other-0", "10.0.0.9", func(p *corev1.Pod) { p.Spec.ServiceAccountName = "other" })
	successor := injected("successor-0", "10.0.0.9")
	leaving := injected("leaving-0", "10.0.0.8", func(p *corev1.Pod) {
		p.Spec.ServiceAccountName, p.DeletionTimestamp = "other", &metav1.Time{Time: time.Unix(1, 0)}
	})
	taken := injected("taken-0", "10.0.0.8")
	alone := injected("alone-0", "10.0.0.7", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} })
	reborn := injected("cart-0", "10.0.0.1", func(p *corev1.Pod) { p.UID = "uid-2" })
	nameless := podEndpoint(pod, "10.0.0.1")
	nameless.TargetRef.UID, nameless.TargetRef.Namespace = "", ""
	pods := NewPods("cluster.local")
	for _, p := range []*corev1.Pod{pod, bare, gateway, host, starting, ended, other, successor, leaving, taken, alone} {
		pods.Set(BuildPod(p))
	}
	for name, c := range map[string]struct {
		endpoint discoveryv1.Endpoint
		port     int32
		want     map[string]string
		problems int
	}{
		"of the mesh":                                {endpoint: podEndpoint(pod, "10.0.0.1"), want: map[string]string{"10.0.0.1": cart}},
		"without UID and namespace":                  {endpoint: nameless, want: map[string]string{"10.0.0.1": cart}},
		"a port that is not captured":                {endpoint: podEndpoint(pod, "10.0.0.1"), port: 9100, want: map[string]string{"10.0.0.1": PlainText}},
		"not of the mesh":                            {endpoint: podEndpoint(bare, "10.0.0.2"), want: map[string]string{"10.0.0.2": PlainText}},
		"not of the mesh, at another address":        {endpoint: podEndpoint(bare, "10.9.9.9"), want: map[string]string{"10.9.9.9": PlainText}},
		"not of the mesh, at the address of one":     {endpoint: podEndpoint(bare, "10.0.0.1"), want: map[string]string{}},
		"of a gateway":                               {endpoint: podEndpoint(gateway, "10.0.0.6"), want: map[string]string{"10.0.0.6": PlainText}},
		"of a node":                                  {endpoint: podEndpoint(host, "192.168.0.1"), want: map[string]string{"192.168.0.1": PlainText}},
		"a pod that is not known":                    {endpoint: podEndpoint(injected("new-0", ""), "10.0.0.3"), want: map[string]string{}},
		"a pod that had the name before":             {endpoint: podEndpoint(reborn, "10.0.0.1"), want: map[string]string{}},
		"a pod without an address":                   {endpoint: podEndpoint(starting, "10.0.0.4"), want: map[string]string{}},
		"a pod that has ended":                       {endpoint: podEndpoint(ended, "10.0.0.1"), want: map[string]string{}},
		"an address that is not the pod's":           {endpoint: podEndpoint(pod, "10.9.9.9"), want: map[string]string{}, problems: 1},
		"no pod":                                     {endpoint: podEndpoint(nil, "203.0.113.1"), want: map[string]string{"203.0.113.1": PlainText}},
		"no pod named, but the address is one's":     {endpoint: podEndpoint(nil, "10.0.0.1"), want: map[string]string{"10.0.0.1": cart}},
		"no pod named, and the address is two's":     {endpoint: podEndpoint(nil, "10.0.0.9"), want: map[string]string{}},
		"no pod named, one of two is on its way out": {endpoint: podEndpoint(nil, "10.0.0.8"), want: map[string]string{"10.0.0.8": cart}},
		"the one that is on its way out":             {endpoint: podEndpoint(alone, "10.0.0.7"), want: map[string]string{"10.0.0.7": cart}},
		"no pod named, and it is on its way out":     {endpoint: podEndpoint(nil, "10.0.0.7"), want: map[string]string{"10.0.0.7": cart}},
		"no pod named, but the address is a node's":  {endpoint: podEndpoint(nil, "192.168.0.1"), want: map[string]string{"192.168.0.1": PlainText}},
	} {
		t.Run(name, func(t *testing.T) {
			port := c.port
			if port == 0 {
				port = 8080
			}
			got, problems := identitiesOf(t, port, pods, c.endpoint)
			if diff := cmp.Diff(c.want, got); diff != "" || len(problems) != c.problems {
				t.Errorf("problems %v; -want +got\n%s", problems, diff)
			}
		})
	}
	pods.Delete(Key{"shop", "other-0"})
	if got, _ := identitiesOf(t, 8080, pods, podEndpoint(nil, "10.0.0.9")); got["10.0.0.9"] != cart {
		t.Errorf("after one of two at an address has gone: %v", got)
	}
	if got, _ := identitiesOf(t, 8080, nil, podEndpoint(pod, "10.0.0.1")); got["10.0.0.1"] != "" {
		t.Errorf("without identities: %v", got)
	}
}

func TestBuildInbound(t *testing.T) {
	ports := map[uint16]config.MTLSMode{80: config.Strict, 90: config.Permissive}
	for _, c := range []struct {
		pod, namespace config.MTLS
		mesh           config.MTLSMode
		want           string
	}{
		{want: "permissive"},
		{mesh: config.Strict, want: "strict"},
		{mesh: config.Strict, namespace: config.MTLS{Mode: config.Permissive}, want: "permissive"},
		{mesh: config.Strict, namespace: config.MTLS{Mode: config.Permissive}, pod: config.MTLS{Mode: config.Strict}, want: "strict"},
		{pod: config.MTLS{Ports: ports}, want: "permissive,80=strict"},
		{namespace: config.MTLS{Mode: config.Strict}, pod: config.MTLS{Ports: ports}, want: "strict,90=permissive"},
		{namespace: config.MTLS{Ports: ports, ForwardCert: []uint16{80}}, want: "permissive,80=strict,forward-client-cert=[80]"},
		{namespace: config.MTLS{Ports: ports}, pod: config.MTLS{Mode: config.Permissive}, want: "permissive"},
	} {
		if got := BuildInbound(c.pod, c.namespace, c.mesh).String(); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if len(ports) != 2 {
		t.Error("the pod's settings were changed")
	}
}
