package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// mizzenctl is built from the tree.
func (e *env) mizzenctl() (run func(args ...string) (stdout string, code int, err error)) {
	e.Helper()
	binary := e.buildMizzenctl()
	return func(args ...string) (string, int, error) {
		ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, binary, append(args, "--kubeconfig", e.Kubeconfig)...).Output()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() > 1 {
			return string(out), exit.ExitCode(), nil
		} else if err != nil {
			if exit != nil {
				err = fmt.Errorf("mizzenctl %s: %w: %s", strings.Join(args, " "), err, exit.Stderr)
			}
			return "", 1, err
		}
		return string(out), 0, nil
	}
}

// plaintext is what the test reads of mizzenctl plaintext -o json.
type plaintext struct {
	Namespaces []struct{ Namespace, Strict string }
	Callers    []struct {
		To struct {
			Workload string
			Port     int
		}
		From struct {
			Kind, Namespace, Reason string
			Names                   []string
		}
		Connections int
	}
}

// Who calls in plain text is listed with its name while it does, whoever has a sidecar is not; and what is said of a
// pod's certificate is what the control plane has given, and nobody hears it over the network.
func TestIdentityCtl(t *testing.T) {
	beside(t)
	if withoutMesh {
		t.Skip("there is no mesh")
	}
	e, outside := newEnv(t, true), newEnv(t, false)
	e.server("server", 1)
	e.ready("server")
	meshed, plain := e.client(), outside.client()
	server := e.podsOf("server")[0]
	call := api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://server.%s:%d/", e.ns, httpPort)}
	e.reachable(meshed, call)
	e.reachable(plain, call)
	run := e.mizzenctl()

	list := func(args ...string) (plaintext, int) {
		t.Helper()
		out, code, err := run(append([]string{"plaintext", "-n", e.ns, "-o", "json"}, args...)...)
		e.must(err)
		var got plaintext
		e.must(json.Unmarshal([]byte(out), &got))
		return got, code
	}
	e.eventually(30*time.Second, func() (string, error) {
		got, code := list()
		for _, c := range got.Callers {
			if c.From.Namespace == e.ns && c.To.Workload == "Deployment/server" {
				t.Errorf("a pod with a sidecar is listed: %+v", c)
			}
			if c.From.Namespace == outside.ns && slices.Contains(c.From.Names, plain.Name) {
				if code != 2 || c.From.Kind != "pod" || !strings.HasPrefix(c.From.Reason, "no sidecar: ") || c.To.Workload != "Deployment/server" || c.To.Port != httpPort || c.Connections < 1 {
					t.Errorf("exit code %d, %+v", code, c)
				}
				return "", nil
			}
		}
		return fmt.Sprintf("the caller in plain text, in %+v", got), nil
	})
	e.identityMatches(run, server)

	e.must(outside.CoreV1().Pods(outside.ns).Delete(e.ctx, plain.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr(int64(1))}))
	e.eventually(time.Minute, func() (string, error) {
		got, code := list("--since", "3s")
		own := 0 // connections that the API server keeps to the pods' control ports for this test
		for _, c := range got.Callers {
			if c.From.Kind == "node" && c.To.Port == api.ControlPort {
				own++
			}
		}
		strict, exit := "safe", 0
		if own > 0 {
			strict, exit = "unsafe", 2
		}
		if len(got.Callers) > own || code != exit || got.Namespaces[0].Strict != strict {
			return fmt.Sprintf("the end of the calls: exit code %d, %+v", code, got), nil
		}
		return "", nil
	})
}

// identityMatches holds what mizzenctl says of a pod against its metrics and the CA's Secret.
func (e *env) identityMatches(run func(...string) (string, int, error), pod cluster.Pod) {
	e.Helper()
	out, _, err := run("identity", pod.Name+"."+pod.Namespace, "-o", "json")
	e.must(err)
	var got agentapi.Identity
	e.must(json.Unmarshal([]byte(out), &got))
	if got.Certificate == nil {
		e.Fatalf("no certificate: %s", out)
	}
	if want := fmt.Sprintf("spiffe://cluster.local/ns/%s/sa/default", pod.Namespace); got.Certificate.ID != want {
		e.Errorf("%s, want %s", got.Certificate.ID, want)
	}
	if end := e.metric(pod, "mizzen_agent_certificate_expiry_timestamp_seconds"); float64(got.Certificate.NotAfter.Unix()) != end {
		e.Errorf("valid until %s, the metric says %s", got.Certificate.NotAfter, time.Unix(int64(end), 0).UTC())
	}
	if r := got.Certificate.Renewal; !r.After(time.Now().Add(-time.Minute)) || !r.Before(got.Certificate.NotAfter) {
		e.Errorf("renewal %s of a certificate until %s", r, got.Certificate.NotAfter)
	}
	secret, err := e.CoreV1().Secrets(cluster.SystemNamespace).Get(e.ctx, "mizzen-ca", metav1.GetOptions{})
	e.must(err)
	var want, roots []string
	for block, rest := pem.Decode(secret.Data["ca.crt"]); block != nil; block, rest = pem.Decode(rest) {
		sum := sha256.Sum256(block.Bytes)
		want = append(want, hex.EncodeToString(sum[:]))
	}
	for _, r := range got.Roots {
		roots = append(roots, r.Fingerprint)
	}
	slices.Sort(want)
	slices.Sort(roots)
	if len(want) == 0 || !slices.Equal(want, roots) {
		e.Errorf("roots %v, the CA's Secret has %v", roots, want)
	}
	for _, path := range []string{agentapi.IdentityPath, agentapi.PlainTextPath} {
		status, body, err := e.Get(e.ctx, pod, config.AgentPort, path)
		if e.must(err); status != 403 {
			e.Errorf("%s over the network: %d %s", path, status, body)
		}
	}
}

// buildMizzenctl returns the path of the program.
func (e *env) buildMizzenctl() string {
	e.Helper()
	binary := filepath.Join(e.TempDir(), "mizzenctl")
	build := exec.CommandContext(e.ctx, "go", "build", "-o", binary, "./cmd/mizzenctl")
	build.Dir = e.Root
	if out, err := build.CombinedOutput(); err != nil {
		e.Fatalf("build mizzenctl: %v\n%s", err, out)
	}
	return binary
}
