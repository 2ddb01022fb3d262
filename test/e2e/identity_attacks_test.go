package e2e

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	identityapi "github.com/mizzen-mesh/mizzen/internal/identity/api"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// attack is what a pod tries and may not do.
type attack struct {
	name string
	call api.Call
	// told is in what the attacker hears.
	told string
	// metric of the control plane counts it; log has the words of one line of its log.
	metric string
	log    []string
	// event is the pod about which there is a warning, if there is one, and warning what it says.
	event   cluster.Pod
	warning string
}

const (
	refusedStreams  = `mizzen_xds_refused_streams_total{reason="%s"}`
	refusedRequests = `mizzen_identity_requests_total{result="%s"}`
)

// Who tries to get what is not his is refused, told why, counted and named. The attacker is a pod of another
// namespace that has no sidecar and does what it likes; for all that it may do itself, the same call works.
func TestAttacks(t *testing.T) {
	besideRotation(t)
	e, outside := newEnv(t, true), newEnv(t, false)
	victim, attacker := e.workload(e.client()), outside.workload(outside.client())
	own := outside.certified(attacker)
	stranger := outside.newCA("stranger", time.Hour)

	// What an attacker may do.
	for name, c := range map[string]api.Call{
		"an ADS stream of its own":           e.adsCall(attacker.node(), own),
		"mTLS with a certificate of its own": meshCall(victim, api.ControlPort, own),
	} {
		if a := e.call(attacker.Pod, c); !a.OK {
			t.Errorf("%s: %s", name, a.Error)
		}
	}

	attacks := append(e.streamAttacks(attacker, victim, own), e.requestAttacks(attacker, victim)...)
	attacks = append(attacks,
		attack{name: "a pod's port with no certificate", call: meshCall(victim, api.ControlPort, nil)},
		attack{name: "a pod's port with a foreign CA's certificate", call: meshCall(victim, api.ControlPort, e.issued(stranger, attacker))},
		attack{name: "a pod's port with a foreign CA's certificate of the pod itself", call: meshCall(victim, api.ControlPort, e.issued(stranger, victim))},
	)
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) { e.refused(t, attacker, a) })
	}
	figure(t, "attacks on the control plane and a pod, each refused", fmt.Sprint(len(attacks)), "")
}

// refused tries an attack.
func (e *env) refused(t *testing.T, attacker workload, a attack) {
	start, before := time.Now(), 0.0
	if a.metric != "" {
		before = e.counted(a.metric)
	}
	a.call.Timeout = cmp.Or(a.call.Timeout, 30*time.Second)
	answer := e.call(attacker.Pod, a.call)
	if answer.OK || !strings.Contains(answer.Error, a.told) {
		t.Fatalf("answer %+v, want a refusal with %q", answer, a.told)
	}
	if a.metric == "" {
		return
	}
	e.must(e.polled(10*time.Second, func() (string, error) {
		if now := e.counted(a.metric); now <= before {
			return fmt.Sprintf("%s is %g as before", a.metric, now), nil
		}
		if found, err := e.logged(start, a.log...); !found || err != nil {
			return fmt.Sprintf("a line in the log with %q", a.log), err
		}
		if a.event == (cluster.Pod{}) {
			return "", nil
		}
		if found, err := e.warned(a.event.Namespace, a.event.Name, a.warning); !found || err != nil {
			return fmt.Sprintf("a warning about %s with %q", a.event.Name, a.warning), err
		}
		return "", nil
	}))
}

// streamAttacks want another pod's configuration, or any.
func (e *env) streamAttacks(attacker, victim workload, own *api.ClientTLS) []attack {
	identity, certificate := fmt.Sprintf(refusedStreams, "identity"), fmt.Sprintf(refusedStreams, "certificate")
	stolenID, sameAccount := victim.node(), attacker.node()
	sameAccount.Pod = "another-pod"
	stranger := e.newCA("stranger", time.Hour)
	connection := []string{"refused an ADS connection", attacker.ip}
	return []attack{
		{
			name: "ADS as another pod", call: e.adsCall(stolenID, own), told: "PermissionDenied",
			metric: identity, log: []string{"refused an ADS stream", victim.Name, attacker.Name, attacker.ip},
			event: attacker.Pod, warning: "ADS stream",
		},
		{
			name: "ADS as another pod of the same service account", call: e.adsCall(sameAccount, own), told: "another-pod",
			metric: identity, log: []string{"refused an ADS stream", "another-pod", attacker.Name, attacker.ip},
		},
		{name: "ADS in plain text", call: e.adsCall(victim.node(), nil), told: "Unavailable", metric: certificate, log: connection},
		{name: "ADS without a certificate", call: e.adsCall(victim.node(), &api.ClientTLS{}), told: "Unavailable", metric: certificate, log: connection},
		{
			name: "ADS with a foreign CA's certificate", call: e.adsCall(victim.node(), e.issued(stranger, victim)),
			told: "Unavailable", metric: certificate, log: append(connection, "unknown authority"),
		},
	}
}

// requestAttacks want a certificate that is not the attacker's, or one on a weak key.
func (e *env) requestAttacks(attacker, victim workload) []attack {
	e.Helper()
	good := e.signingRequest(e.newKey(), "")
	own := e.token(attacker, identityapi.Audience)
	unbound := attacker
	unbound.uid = ""
	weakEC, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	e.must(err)
	weakRSA, err := rsa.GenerateKey(rand.Reader, 2048)
	e.must(err)
	token, address, request, identity := fmt.Sprintf(refusedRequests, "token"), fmt.Sprintf(refusedRequests, "address"),
		fmt.Sprintf(refusedRequests, "request"), fmt.Sprintf(refusedRequests, "identity")
	from := []string{"refused a request", attacker.ip}
	bundle := certificateCall("", nil)
	bundle.Method, bundle.Target = "GET", strings.Replace(bundle.Target, identityapi.CertificatePath, identityapi.BundlePath, 1)
	return []attack{
		{
			name: "a stolen token", call: certificateCall(e.token(victim, identityapi.Audience), good), told: "403",
			metric: address, log: append(from, victim.Name), event: victim.Pod, warning: attacker.ip,
		},
		{name: "a token of another audience", call: certificateCall(e.token(attacker), good), told: "401", metric: token, log: append(from, "audience")},
		{name: "a token that is bound to no pod", call: certificateCall(e.token(unbound, identityapi.Audience), good), told: "401", metric: token, log: append(from, "not bound to a pod")},
		{name: "the token of a deleted pod", call: certificateCall(e.deadToken(), good), told: "401", metric: token, log: from},
		{name: "a forged token", call: certificateCall(own[:len(own)-8]+"AAAAAAAA", good), told: "401", metric: token, log: from},
		{name: "no token", call: certificateCall("", good), told: "401", metric: token, log: from},
		{
			name: "another identity", call: certificateCall(own, e.signingRequest(e.newKey(), victim.id().String())), told: victim.id().String(),
			metric: identity, log: append(from, victim.id().String()), event: attacker.Pod, warning: victim.id().String(),
		},
		{name: "a weak key", call: certificateCall(own, e.signingRequest(weakEC, "")), told: "224 bits", metric: request, log: append(from, "224 bits")},
		{name: "an RSA key", call: certificateCall(own, e.signingRequest(weakRSA, "")), told: "RSA", metric: request, log: append(from, "RSA")},
		{
			name: "the trust bundle without a certificate", call: bundle, told: "403",
			metric: fmt.Sprintf(refusedRequests, "certificate"), log: append(from, identityapi.BundlePath),
		},
	}
}

// deadToken was good until its pod was deleted.
func (e *env) deadToken() string {
	e.Helper()
	e.create(e.pod("gone", serverPod()))
	pod := cluster.Pod{Namespace: e.ns, Name: "gone"}
	e.must(e.WaitPodReady(e.ctx, pod, readyTimeout))
	token := e.token(e.workload(pod), identityapi.Audience)
	e.must(e.CoreV1().Pods(e.ns).Delete(e.ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr(int64(0))}))
	e.must(e.WaitNoPods(e.ctx, e.ns, "app=gone", readyTimeout))
	return token
}

// Nothing of a pod's sidecar or of the control plane that is for itself alone answers another pod, in the mesh
// or not, with a certificate or without.
func TestPorts(t *testing.T) {
	besideRotation(t)
	e, outside := newEnv(t, true), newEnv(t, false)
	e.server("server", 1)
	client := e.client()
	e.ready("server")
	server := e.workload(e.podsOf("server")[0])
	attackers := map[string]workload{"without a sidecar": outside.workload(outside.client()), "with one": e.workload(client)}
	own := outside.certified(attackers["without a sidecar"])
	ask := func(address, path string) api.Call {
		return api.Call{Kind: api.HTTP, Target: "http://" + address + path, Timeout: 15 * time.Second}
	}
	controller := e.workload(e.replicas()[0])
	for who, attacker := range attackers {
		// The way there is open: what is for everybody answers.
		for _, c := range []api.Call{
			ask(server.address(config.AgentPort), "/healthz"), ask(controller.address(config.ControllerHTTPPort), "/healthz"), ask(server.address(httpPort), "/"),
		} {
			if a := e.call(attacker.Pod, c); !a.OK {
				t.Errorf("%s: %s: %s", who, c.Target, a.Error)
			}
		}
		refused := 0
		for _, c := range forbidden(server, controller, own, ask) {
			a := e.call(attacker.Pod, c)
			if a.OK {
				t.Errorf("%s: %s is answered: %q", who, c.Target, a.Text)
			}
			refused++
		}
		figure(t, "calls that only the pod itself may make, from a pod "+who, fmt.Sprintf("%d refused", refused), "all")
	}
	// Envoy connects to itself without end if the listener's own port is passed on.
	if a := e.call(client, ask(server.address(httpPort), "/")); !a.OK {
		t.Errorf("after all this the server does not answer: %s", a.Error)
	}
	e.noRestarts()
}

// forbidden are the calls that must get no good answer.
func forbidden(server, controller workload, own *api.ClientTLS, ask func(address, path string) api.Call) []api.Call {
	var out []api.Call
	// Listeners of the sidecar, and where an Envoy's admin interface usually is.
	for _, port := range []int{config.OutboundPort, config.InboundPort, 15000, 9901, 15004, 15021, 15090} {
		plain := api.Call{Kind: api.Exchange, Target: server.address(port), Content: []byte(httpRequest), Timeout: time.Second}
		out = append(out, plain, meshCall(server, port, own))
	}
	for _, path := range []string{"/config_dump", "/stats", "/quitquitquit", "/debug/pprof/", agentapi.IdentityPath, agentapi.PlainTextPath,
		appprobe.Path("app", appprobe.Readiness)} {
		out = append(out, ask(server.address(config.AgentPort), path))
	}
	for _, path := range []string{"/debug/", "/debug/proxies", "/debug/resources", "/debug/usage?workload=a/Deployment/b", "/debug/problems", "/debug/identity", "/debug/pprof/"} {
		out = append(out, ask(controller.address(config.ControllerHTTPPort), path), ask(fmt.Sprintf("%s:%d", controlPlaneHost, config.ControllerHTTPPort), path))
	}
	return out
}
