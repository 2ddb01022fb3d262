package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// Connections on which nobody says anything end within the drain time when a policy comes that refuses their caller, in
// plain text and with mTLS, and no other one does.
func TestSilentConnections(t *testing.T) {
	beside(t)
	if withoutMesh {
		t.Skip("policies need the mesh")
	}
	e := newEnv(t, true)
	const echoPort = 4445
	e.deploy("server", 1, serverPod("server", "--http=:8080", "--echo=:4445"))
	e.service("server", "server", port("http", httpPort), port("tcp", echoPort))
	callers := map[string]cluster.Pod{
		"web": e.callerAs("web", nil), "other": e.callerAs("other", nil),
		"plain": e.callerAs("plain", map[string]string{config.LabelInjection: config.InjectionDisabled}),
	}
	e.ready("server")
	for _, from := range callers {
		e.reachable(from, api.Call{Kind: api.Echo, Target: "server:4445"})
	}

	// The server waits for the end of a line, for 30 s, and the client for an answer: not as long, so that it is the one who gives up.
	const patience = 25 * time.Second
	silent := api.Call{Kind: api.Exchange, Target: "server:4445", Content: []byte("x"), Timeout: patience}
	type end struct {
		who    string
		answer api.Answer
		at     time.Time
	}
	ends := make(chan end, len(callers))
	for who, from := range callers {
		go func() {
			a := e.call(from, silent)
			ends <- end{who, a, time.Now()}
		}()
	}
	server := e.podsOf("server")[0]
	// The echoes before and the silent one.
	e.eventually(20*time.Second, func() (string, error) {
		// There is no such metric before the first connection is told.
		_, body, err := e.Get(e.ctx, server, config.AgentPort, "metrics")
		if err != nil {
			return "", err
		}
		if !strings.Contains(string(body), `mizzen_agent_plaintext_calls_total{kind="connection",port="4445"} 2`) {
			return "a silent connection in plain text", nil
		}
		return "", nil
	})
	e.policy("callers", "  rules: [{from: [{serviceAccount: {name: web}}]}]")
	held := time.Now()
	within := config.Default().MTLS.DrainTime.Duration
	for range callers {
		got := <-ends
		after := got.at.Sub(held).Round(100 * time.Millisecond)
		switch {
		case got.who == "web":
			if got.answer.OK || got.answer.Elapsed < patience {
				t.Errorf("the caller who is let in: after %s %+v, want that the connection lasts for %s", got.answer.Elapsed, got.answer, patience)
			}
		case got.answer.OK || after > within+2*time.Second: // the sidecar takes a policy within a second or two
			t.Errorf("%s: %s after the policy: %+v, want an end within %s", got.who, after, got.answer, within)
		default:
			figure(t, "end of a silent connection that a policy refuses, "+got.who, after.String(), "≤ "+(within+2*time.Second).String())
		}
	}
	for _, reason := range []string{"plaintext", "policy"} {
		if n := e.metric(server, `mizzen_agent_ended_connections_total{reason="`+reason+`"}`); n < 1 {
			t.Errorf("%v connections ended for the reason %s, want one at least", n, reason)
		}
	}
}
