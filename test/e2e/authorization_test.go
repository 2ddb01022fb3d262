package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// policyTime bounds how long callers that have connections already go on as before: sidecars take a policy, and some
// seconds later callers connect anew.
const policyTime = 30 * time.Second

var policies = v1alpha1.GroupVersion.WithResource("authorizationpolicies")

// callerAs makes a client with a service account of its own name, and waits for it.
func (e *env) callerAs(name string, labels map[string]string) cluster.Pod {
	e.Helper()
	_, err := e.CoreV1().ServiceAccounts(e.ns).Create(e.ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	e.must(err)
	pod := e.pod(name, serverPod("server"))
	pod.Spec.ServiceAccountName = name
	for key, value := range labels {
		pod.Labels[key] = value
	}
	e.create(pod)
	p := cluster.Pod{Namespace: e.ns, Name: name}
	e.must(e.WaitPodReady(e.ctx, p, readyTimeout))
	return p
}

// policy applies a policy for the pods of "server" and waits for its status.
func (e *env) policy(name, spec string) {
	e.Helper()
	e.apply(fmt.Sprintf("apiVersion: mizzen.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: %s}\nspec:\n  podSelector: {matchLabels: {app: server}}\n%s", name, spec))
	e.eventually(statusTime, func() (string, error) {
		o, err := e.Dynamic.Resource(policies).Namespace(e.ns).Get(e.ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		conditions, _, err := unstructured.NestedSlice(o.Object, "status", "conditions")
		for _, c := range conditions {
			c := c.(map[string]any)
			if c["type"] == v1alpha1.ConditionAccepted && c["status"] == "True" && c["observedGeneration"] == o.GetGeneration() {
				return "", nil
			}
		}
		return fmt.Sprintf("condition Accepted of policy %s: %v", name, conditions), err
	})
}

func (e *env) noPolicy(name string) {
	e.Helper()
	e.must(e.Dynamic.Resource(policies).Namespace(e.ns).Delete(e.ctx, name, metav1.DeleteOptions{}))
}

// inSidecarLog waits for a line with all parts in the log of a sidecar of "server".
func (e *env) inSidecarLog(parts ...string) {
	e.Helper()
	e.eventually(20*time.Second, func() (string, error) { return e.notInSidecarLog(parts...) })
}

// notInSidecarLog says what is missing while no sidecar of "server" has logged a line with all parts.
func (e *env) notInSidecarLog(parts ...string) (string, error) {
	for _, p := range e.podsOf("server") {
		log, err := e.CoreV1().Pods(e.ns).GetLogs(p.Name, &corev1.PodLogOptions{Container: config.ProxyContainer}).DoRaw(e.ctx)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(log)) {
			found := true
			for _, part := range parts {
				found = found && strings.Contains(line, part)
			}
			if found {
				return "", nil
			}
		}
	}
	return fmt.Sprintf("a line with %q in the log of a sidecar", parts), nil
}

func refusedWith(status int) func(api.Answer) bool {
	return func(a api.Answer) bool { return !a.OK && a.Status == status }
}

func ok(a api.Answer) bool { return a.OK }

// byAll accepts the answer after which each of so many pods has let a caller in since the last refusal: each has its
// sidecar decide.
func byAll(pods int) func(api.Answer) bool {
	seen := map[string]bool{}
	return func(a api.Answer) bool {
		if a.OK {
			seen[a.Pod] = true
		} else {
			clear(seen)
		}
		return len(seen) == pods
	}
}

// Who may call is decided by the caller's service account, namespace, HTTP method and path, and gRPC method. Policies
// come and go under load: who is allowed all the time loses no call, who is not is refused also on connections that he
// has.
func TestAuthorization(t *testing.T) {
	beside(t)
	if withoutMesh {
		t.Skip("policies need the mesh")
	}
	e := newEnv(t, true)
	const servers = 2
	e.server("server", servers)
	web, other := e.callerAs("web", nil), e.callerAs("other", nil)
	plain := e.callerAs("plain", map[string]string{config.LabelInjection: config.InjectionDisabled})
	e.ready("server")
	for _, from := range []cluster.Pod{web, other, plain} {
		e.reachable(from, httpCall, grpcCall)
	}
	began := time.Now()
	loads := map[string]*load{
		"HTTP": e.startLoad(web, api.Load{Call: patiently(httpCall), Rate: 100, Concurrency: atOnce}), "gRPC": e.startLoad(web, api.Load{Call: patiently(grpcCall), Rate: 100, Concurrency: atOnce}),
	}

	// By the caller alone, at all ports.
	e.policy("callers", "  rules: [{from: [{serviceAccount: {name: web}}]}]")
	e.answered(other, httpCall, policyTime, refusedWith(403))
	e.answered(other, grpcCall, policyTime, refusedWith(7))
	e.answered(plain, httpCall, policyTime, refusedWith(403))
	e.inSidecarLog(`"call refused"`, `/sa/other"`, `"no AuthorizationPolicy allows it"`)
	e.policy("callers", fmt.Sprintf("  rules: [{from: [{namespace: %s}]}]", e.ns))
	e.answered(other, httpCall, policyTime, byAll(servers))
	e.answered(plain, httpCall, policyTime, refusedWith(403))
	e.policy("not-other", "  action: Deny\n  rules: [{from: [{serviceAccount: {name: other}}]}]")
	// A connection that drains still refuses by the policies before, which name no policy.
	e.eventually(policyTime, func() (string, error) {
		if a := e.call(other, httpCall); !refusedWith(403)(a) {
			return fmt.Sprintf("answer %+v", a), nil
		}
		return e.notInSidecarLog(`"call refused"`, `/sa/other"`, fmt.Sprintf(`"policy":"%s/not-other"`, e.ns))
	})
	e.noPolicy("not-other")
	e.noPolicy("callers")
	e.answered(plain, httpCall, policyTime, ok)

	// By request.
	e.policy("requests", fmt.Sprintf(`  rules:
  - {ports: [%d], http: [{methods: [GET], path: {type: Exact, value: /}}, {path: {value: /echo}}]}
  - {ports: [%d], grpc: [{service: mizzen.test.echo.v1.Echo, method: Call}]}
`, httpPort, grpcPort))
	post := httpCall
	post.Method = "POST"
	hidden := api.Call{Kind: api.HTTP, Target: httpCall.Target + "big?n=1"}
	otherMethod := grpcCall
	otherMethod.Kind = api.GRPCOther
	for _, from := range []cluster.Pod{web, plain} {
		e.answered(from, post, policyTime, refusedWith(403))
		e.answered(from, hidden, policyTime, refusedWith(403))
		e.answered(from, otherMethod, policyTime, refusedWith(7))
		e.answered(from, httpCall, policyTime, ok)
		e.answered(from, grpcCall, policyTime, ok)
	}
	e.inSidecarLog(`"call refused"`, `/sa/web"`, `"path":"/big"`, `"status":403`)
	e.noPolicy("requests")
	e.answered(web, hidden, policyTime, byAll(servers))

	// In dry run nobody is refused.
	e.policy("try", fmt.Sprintf("  action: Deny\n  dryRun: true\n  rules: [{ports: [%d], http: [{path: {value: /big}}]}]", httpPort))
	e.eventually(policyTime, func() (string, error) {
		switch a := e.call(web, hidden); {
		case strings.Contains(a.Text, e.ns+"/try"):
			return "", fmt.Errorf("refused in dry run: %+v", a)
		case !a.OK: // over a connection that the policy before has judged
			return fmt.Sprintf("answer %+v", a), nil
		}
		n := 0
		for _, p := range e.podsOf("server") {
			status, body, err := e.Get(e.ctx, p, config.AgentPort, "metrics")
			if err != nil || status != 200 {
				return "", fmt.Errorf("metrics of %s: %d, %v", p.Name, status, err) //nolint:errorlint // err may be nil
			}
			for line := range strings.Lines(string(body)) {
				if strings.HasPrefix(line, "envoy_http_rbac_shadow_denied{") && !strings.HasSuffix(line, " 0\n") {
					n++
				}
			}
		}
		if n == 0 {
			return "a call that would have been refused in the metrics", nil
		}
		return "", nil
	})
	e.inSidecarLog(`"call would be refused"`, fmt.Sprintf(`"policy":"%s/try"`, e.ns), `"path":"/big"`)
	for name, l := range loads {
		e.noFailures("calls of "+name+" that policies allow, while they change", l.stop(), int(70*time.Since(began).Seconds()))
	}

	// What cannot be meant is refused with what can.
	for want, rule := range map[string]string{
		"want ports together with http or grpc": "{http: [{methods: [GET]}]}",
		"exactly one of serviceAccount":         "{from: [{}]}",
		"missing closing )":                     `{ports: [80], http: [{path: {type: RegularExpression, value: "("}}]}`,
	} {
		err := e.Apply(e.ctx, e.ns, "apiVersion: mizzen.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: bad}\nspec: {rules: ["+rule+"]}")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
	}
	for _, p := range append(e.podsOf("server"), web) {
		if nacks := e.proxy(p).NACKs; len(nacks) > 0 {
			t.Errorf("%s: its sidecar refused %+v", p.Name, nacks)
		}
	}
}

// X-Forwarded-Client-Cert holds the caller's identity or nothing, whatever the caller sends.
func TestForwardedClientCert(t *testing.T) {
	beside(t)
	if withoutMesh {
		t.Skip("identities need the mesh")
	}
	e := newEnv(t, true)
	pod := e.pod("server", serverPod())
	pod.Annotations = map[string]string{config.AnnotationForwardClientCert: fmt.Sprint(httpPort)}
	e.create(pod)
	e.service("server", "server", port("http", httpPort))
	web := e.callerAs("web", nil)
	plain := e.callerAs("plain", map[string]string{config.LabelInjection: config.InjectionDisabled})
	e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "server"}, readyTimeout))
	forged := api.Call{
		Kind: api.HTTP, Target: httpCall.Target + "header?name=X-Forwarded-Client-Cert",
		Headers: map[string]string{"X-Forwarded-Client-Cert": "URI=spiffe://cluster.local/ns/" + e.ns + "/sa/admin"},
	}
	for from, want := range map[cluster.Pod]string{web: "URI=spiffe://cluster.local/ns/" + e.ns + "/sa/web]", plain: "[]"} {
		c := forged
		c.Want = want
		e.reachable(from, c)
		if a := e.call(from, c); strings.Contains(a.Text, "admin") {
			t.Errorf("%s: the application sees %q", from.Name, a.Text)
		}
	}
	// Who has a certificate needs no sidecar that would write the header properly.
	attacker := e.workload(plain)
	direct := meshCall(e.workload(cluster.Pod{Namespace: e.ns, Name: "server"}), httpPort, e.certified(attacker))
	direct.Want = "URI=" + attacker.id().String() + "]"
	for _, name := range []string{"X-Forwarded-Client-Cert", "x_forwarded_client_cert"} {
		direct.Content = fmt.Appendf(nil, "GET /header?name=X-Forwarded-Client-Cert HTTP/1.1\r\nHost: x\r\n%s: %s\r\nConnection: close\r\n\r\n", name, forged.Headers["X-Forwarded-Client-Cert"])
		if a := e.call(plain, direct); !a.OK || strings.Contains(a.Text, "admin") {
			t.Errorf("%s over mTLS of the caller's own: %+v", name, a)
		}
	}
}
