package e2e

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
	"github.com/mizzen-mesh/mizzen/test/internal/wire"
)

// secret is said by the callers of TestWire.
const secret = "nobody-may-read-this"

// serverHelloTLS13 is the extension by which a server chooses TLS 1.3 (RFC 8446, 4.2.1).
var serverHelloTLS13 = []byte{0, 43, 0, 2, 3, 4}

// What goes over the node's network between two meshed pods is TLS 1.3, whatever the protocol and however the
// server is named. Between pods without the mesh the same calls can be read, so that the test could fail.
func TestWire(t *testing.T) {
	besideRotation(t)
	for _, meshed := range []bool{false, true} {
		e := newEnv(t, meshed)
		netns := fmt.Sprintf("/proc/%d/ns/net", e.process("kubelet", "listens in the node's network namespace"))
		ports := []corev1.ServicePort{port("http", httpPort), port("grpc", grpcPort), port("mysql", 3306), port("raw", 4445)}
		e.service("server", "server", ports...)
		e.headless("headless", "server", ports...)
		e.statefulSet("server", "headless", 1, serverPod("server", "--http=:8080", "--grpc=:50051", "--mysql=:3306", "--echo=:4445"))
		client, server := e.client(), cluster.Pod{Namespace: e.ns, Name: "server-0"}
		e.must(e.WaitPodReady(e.ctx, server, readyTimeout))
		calls := map[string]api.Call{}
		for _, host := range []string{"server", "headless", "server-0.headless", e.address(server).String()} {
			calls["HTTP to "+host] = api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://%s:%d/%s", host, httpPort, secret), Host: "server"}
			calls["HTTP/2 to "+host] = api.Call{Kind: api.HTTP2, Target: fmt.Sprintf("http://%s:%d/echo", host, httpPort), Method: "POST", Content: []byte(secret), Host: "server"}
			calls["gRPC to "+host] = api.Call{Kind: api.GRPC, Target: fmt.Sprintf("%s:%d", host, grpcPort)}
			calls["MySQL to "+host] = api.Call{Kind: api.MySQL, Target: host + ":3306"}
			calls["bytes to "+host] = api.Call{Kind: api.Exchange, Target: host + ":4445", Content: []byte(secret + "\n")}
		}
		// Sidecars keep connections: not each call has a handshake of its own.
		whole, err := wire.Listen(netns, e.address(client), e.address(server))
		e.must(err)
		for name, c := range calls {
			e.reachable(client, c)
			w, err := wire.Listen(netns, e.address(client), e.address(server))
			e.must(err)
			a := e.call(client, patiently(c))
			heard, err := w.Heard()
			e.must(err)
			e.must(w.Close())
			// The server names itself in each of its answers.
			plain := bytes.Contains(heard, []byte(server.Name)) || bytes.Contains(heard, []byte(secret))
			if !a.OK || len(heard) == 0 || plain == e.meshed {
				t.Errorf("%s: %s: ok=%t %s; in %d bytes on the wire: plain text %t", e.kind(), name, a.OK, a.Error, len(heard), plain)
			}
		}
		heard, err := whole.Heard()
		e.must(err)
		e.must(whole.Close())
		if secured := bytes.Contains(heard, serverHelloTLS13); secured != e.meshed {
			t.Errorf("%s: TLS 1.3 in %d bytes on the wire: %t", e.kind(), len(heard), secured)
		}
		figure(t, "ways to call whose bytes "+e.kind()+" pods sent were heard", fmt.Sprint(len(calls)), "")
	}
}

// address of a pod, the first one.
func (e *env) address(pod cluster.Pod) netip.Addr {
	e.Helper()
	p, err := e.CoreV1().Pods(pod.Namespace).Get(e.ctx, pod.Name, metav1.GetOptions{})
	e.must(err)
	ip, err := netip.ParseAddr(p.Status.PodIP)
	e.must(err)
	return ip
}
