package e2e

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	identityapi "github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

const mysqlPort = 3306

// Lives as short as they may be: with them a root is replaced within three minutes.
var shortLives = []string{"mesh.identity.certificateLifetime=2m", "mesh.identity.caSettle=3s"}

// Bounds for the steps of a rotation with shortLives, on a busy machine: a root settles for 3 s, or for 30 s where a pod
// is gone that did not have it; a certificate is renewed after 84 s at the latest; a root is forgotten 123 s after it
// signed for the last time, and 120 s after the end of the last pod that had a certificate of it.
const (
	settles  = time.Minute
	renewed  = 3 * time.Minute
	forgot   = 4 * time.Minute
	stepTime = 10 * time.Second
)

// patient is what a call may take: many pods start beside the loads, and what is looked for is a failure, not a delay.
const patient = time.Minute

func patiently(c api.Call) api.Call {
	c.Timeout = patient
	return c
}

// Scenario 17: certificates that live for 2 minutes, and another root, under load: no call fails, every sidecar
// comes to have a certificate of the new root, and at last nobody trusts the old one. The rotation begins as a
// user would begin it: with a longer life for the root, of which more than two thirds are over at once.
func TestRotation(t *testing.T) {
	rotating(t)
	if withoutMesh {
		t.Skip("identities need the mesh")
	}
	e := newEnv(t, true)
	c := e.calledWithIdentity()
	secret, oldRoot := e.caSecret()
	old, err := ca.Load(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	e.must(err)
	for _, w := range c.workloads {
		e.shows(w, oldRoot)
	}
	life := oldRoot.NotAfter.Sub(oldRoot.NotBefore) / 10 * 31 // a third of it is more than the old one
	if life > 876000*time.Hour {                              // as long as a root may live
		t.Fatalf("the root of this cluster is from a rotation before and lives too long for another one: make cluster-down first")
	}
	leaked := e.issued(old, c.workloads[0])
	e.accepted(c, leaked)

	start := time.Now()
	took := func(what, allowed string) {
		figure(t, what, time.Since(start).Round(time.Second).String(), allowed)
	}
	e.install(append(shortLives, fmt.Sprintf("mesh.identity.caLifetime=%dh", int(life.Hours())))...)
	// A pod that is made now knows the new root; one made before and started later than it signs would not.
	e.eventually(settles, func() (string, error) {
		s, _ := e.caSecret()
		bundle := string(s.Data["ca.crt"])
		version := fmt.Sprintf("mizzen_identity_bundle_info{version=%q}", identityapi.Version(bundle))
		if n, want := e.counted(version), float64(len(e.replicas())); strings.Count(bundle, "BEGIN") != 2 || n != want {
			return fmt.Sprintf("two roots at %g of %g replicas", n, want), nil
		}
		return "", nil
	})
	took("every replica trusts both roots, after", "")
	beginRotation()
	var newRoot *x509.Certificate
	e.eventually(settles, func() (string, error) {
		if _, newRoot = e.caSecret(); newRoot.Equal(oldRoot) {
			return "another root that signs", nil
		}
		return "", nil
	})
	e.eventually(renewed, func() (string, error) { return e.missing(c.workloads, newRoot), nil })
	took("every sidecar has a certificate of the new root, after", "")
	e.eventually(forgot, func() (string, error) {
		s, _ := e.caSecret()
		roots, err := ca.ParseCertificates(s.Data["ca.crt"])
		if err == nil && (len(roots) != 1 || !roots[0].Equal(newRoot)) {
			return fmt.Sprintf("one root in the Secret, has %d", len(roots)), nil
		}
		return "", err
	})
	// Whoever has kept the old root's key can do nothing with it any more.
	e.eventually(settles, func() (string, error) { return e.trusted(c, e.issued(old, c.workloads[0])), nil })
	took("nobody trusts the old root, after", "")
	c.noFailures(e, "through the rotation")
}

// called are two servers and a client with loads between them: over old connections and new ones.
type called struct {
	client    cluster.Pod
	workloads []workload
	loads     map[string]*load
	began     time.Time
}

func (e *env) calledWithIdentity() *called {
	e.Helper()
	e.deploy("server", 2, serverPod("server", "--http=:8080", "--grpc=:50051", "--mysql=:3306"))
	e.service("server", "server", port("http", httpPort), port("grpc", grpcPort), port("mysql", mysqlPort))
	c := &called{client: e.client(), loads: map[string]*load{}, began: time.Now()}
	e.ready("server")
	lines := api.Call{Kind: api.MySQL, Target: fmt.Sprintf("server:%d", mysqlPort)}
	e.reachable(c.client, httpCall, grpcCall, lines)
	for _, p := range append(e.podsOf("server"), c.client) {
		c.workloads = append(c.workloads, e.workload(p))
	}
	for name, l := range map[string]api.Load{
		"HTTP":                            {Call: httpCall, Rate: 50, Concurrency: atOnce},
		"gRPC":                            {Call: grpcCall, Rate: 50, Concurrency: atOnce},
		"TCP over one connection":         {Call: lines, Rate: 10, Concurrency: atOnce},
		"TCP, a handshake for each of":    {Call: lines, Rate: 10, Fresh: true, Concurrency: atOnce},
		"HTTP over a new connection each": {Call: httpCall, Rate: 10, Fresh: true, Concurrency: atOnce},
	} {
		l.Timeout = patient
		c.loads[name] = e.startLoad(c.client, l)
	}
	return c
}

// noFailures ends the loads.
func (c *called) noFailures(e *env, when string) {
	e.Helper()
	seconds := int(time.Since(c.began).Seconds())
	for name, l := range c.loads {
		e.noFailures(name+" "+when, l.stop(), 7*seconds)
	}
}

// shows gives an error of the test unless a pod shows a certificate of its own that the root has signed.
func (e *env) shows(w workload, root *x509.Certificate) {
	e.Helper()
	if err := e.shown(w, root); err != nil {
		e.Errorf("%s: %v", w.Name, err)
	}
}

func (e *env) shown(w workload, root *x509.Certificate) error {
	peer, err := e.peer(w)
	if err != nil {
		return err
	}
	return verified(peer, root, w)
}

// missing names a pod that does not show a certificate of this root.
func (e *env) missing(of []workload, root *x509.Certificate) string {
	for _, w := range of {
		if err := e.shown(w, root); err != nil {
			return fmt.Sprintf("%s: %v", w.Name, err)
		}
	}
	return ""
}

// peer is what a pod's sidecar shows of itself to somebody who shows nothing and is refused for it.
func (e *env) peer(w workload) (string, error) {
	a := e.call(e.witness(), meshCall(w, api.ControlPort, nil))
	if a.Peer == "" {
		return "", errors.New(a.Error)
	}
	return a.Peer, nil
}

// witness is a pod of the namespace without a sidecar.
func (e *env) witness() cluster.Pod {
	e.Helper()
	w := cluster.Pod{Namespace: e.ns, Name: "witness"}
	if _, err := e.CoreV1().Pods(e.ns).Get(e.ctx, w.Name, metav1.GetOptions{}); err == nil {
		return w
	}
	p := e.pod(w.Name, serverPod("server"))
	p.Labels[config.LabelInjection] = config.InjectionDisabled
	e.create(p)
	e.must(e.WaitPodReady(e.ctx, w, readyTimeout))
	return w
}

// accepted asserts that sidecars and control plane take a certificate.
func (e *env) accepted(c *called, shown *api.ClientTLS) {
	e.Helper()
	for _, call := range e.with(c, shown) {
		if a := e.call(e.witness(), call); !a.OK {
			e.Errorf("%s refuses a certificate that is good: %s", call.Target, a.Error)
		}
	}
}

// trusted names somebody who takes a certificate that is good no more.
func (e *env) trusted(c *called, shown *api.ClientTLS) string {
	for _, call := range e.with(c, shown) {
		if a := e.call(e.witness(), call); a.OK {
			return call.Target + " takes a certificate of the old root"
		}
	}
	return ""
}

// with are calls with a certificate of the first workload: to each sidecar, and to the control plane.
func (e *env) with(c *called, shown *api.ClientTLS) []api.Call {
	e.Helper()
	calls := []api.Call{e.adsCall(c.workloads[0].node(), shown)}
	for _, w := range c.workloads {
		calls = append(calls, meshCall(w, api.ControlPort, shown))
	}
	return calls
}
