package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// The procedure of docs/authorization.md: who is named by the dry run is refused when the policy is enforced, and nobody
// else; where it names nobody, nobody is. One caller has a gRPC connection from before the policy.
func TestDryRunProcedure(t *testing.T) {
	beside(t)
	if withoutMesh {
		t.Skip("policies need the mesh")
	}
	e := newEnv(t, true)
	e.server("server", 2)
	web, other := e.callerAs("web", nil), e.callerAs("other", nil)
	plain := e.callerAs("plain", map[string]string{config.LabelInjection: config.InjectionDisabled})
	e.ready("server")
	for _, from := range []cluster.Pod{web, other, plain} {
		e.reachable(from, httpCall, grpcCall)
	}
	began := time.Now()
	allowed := e.startLoad(web, api.Load{Call: patiently(grpcCall), Rate: 50, Concurrency: atOnce})
	living := e.startLoad(other, api.Load{Call: patiently(grpcCall), Rate: 50, Concurrency: atOnce})
	run := e.mizzenctl()
	dryRun := func(want ...string) {
		t.Helper()
		code := 0
		if len(want) > 0 {
			code = 2
		}
		e.eventually(policyTime, func() (string, error) {
			out, got, err := run("dryrun", "-n", e.ns, "--for", "0s", "-o", "json")
			if err != nil {
				return "", err
			}
			if got == 1 {
				return "a policy in dry run that selects pods", nil
			}
			var said struct{ Refused []struct{ Caller string } }
			if err := json.Unmarshal([]byte(out), &said); err != nil {
				return "", err
			}
			var callers []string
			for _, r := range said.Refused {
				callers = append(callers, r.Caller)
			}
			slices.Sort(callers)
			if callers = slices.Compact(callers); got != code || !slices.Equal(callers, want) {
				return fmt.Sprintf("exit code %d, %q, want %d, %q, of:\n%s", got, callers, code, want, out), nil
			}
			return "", nil
		})
	}
	const onlyWeb = "  rules: [{from: [{serviceAccount: {name: web}}]}]"
	e.policy("try", "  dryRun: true\n"+onlyWeb)
	refused := []string{e.ns + "/other", plain.Namespace + "/" + plain.Name + " (no mTLS)"}
	slices.Sort(refused)
	dryRun(refused...)
	if r := living.stop(); r.Failed > 0 {
		t.Errorf("a dry run has refused: %+v", r)
	}
	e.policy("try", "  dryRun: false\n"+onlyWeb)
	for _, from := range []cluster.Pod{other, plain} {
		e.answered(from, grpcCall, policyTime, refusedWith(7))
	}
	e.answered(web, grpcCall, policyTime, ok)
	e.noPolicy("try")
	for _, from := range []cluster.Pod{other, plain} {
		e.answered(from, grpcCall, policyTime, ok)
	}

	everybody := fmt.Sprintf("  rules: [{from: [{namespace: %s}]}, {ports: [%d, %d]}]", e.ns, httpPort, grpcPort)
	e.policy("open", "  dryRun: true\n"+everybody)
	dryRun()
	e.policy("open", "  dryRun: false\n"+everybody)
	for _, from := range []cluster.Pod{web, other, plain} {
		e.answered(from, grpcCall, policyTime, byAll(2))
	}
	e.noFailures("calls that both policies allow", allowed.stop(), int(30*time.Since(began).Seconds()))
}
