package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// The dashboard's graph has the edges of real calls, with the right figures, and says what fails. The page itself is driven in a
// browser by the tests of internal/dashboard.
func TestDashboard(t *testing.T) {
	beside(t)
	if withoutMesh {
		t.Skip("there is no mesh")
	}
	e := newEnv(t, true)
	e.server("server", 2)
	e.service("nobody", "nobody", port("http", httpPort))
	web, other := e.callerAs("web", nil), e.callerAs("other", nil)
	e.ready("server")
	e.reachable(web, httpCall, grpcCall)
	e.reachable(other, httpCall)
	nobody := api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://nobody:%d/", httpPort)}
	failing := httpCall
	failing.Target += "status?code=503"
	loads := []*load{
		e.startLoad(web, api.Load{Call: grpcCall, Rate: 20}),
		e.startLoad(other, api.Load{Call: httpCall, Rate: 15}),
		e.startLoad(other, api.Load{Call: failing, Rate: 5}),
		e.startLoad(web, api.Load{Call: nobody, Rate: 10}),
	}

	cmd := exec.CommandContext(e.ctx, e.buildMizzenctl(), "dashboard", "-n", e.ns, "--from", e.ns, "--kubeconfig", e.Kubeconfig)
	out, err := cmd.StdoutPipe()
	e.must(err)
	e.must(cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed, as was asked
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	e.must(err)
	address = strings.TrimSpace(address)

	type edge struct {
		From, To         string
		Requests, Failed int64
		PerSecond        float64
		MTLS             string
		P99              *float64
	}
	type page struct {
		Seconds float64
		Graph   struct{ Edges []edge }
		Calls   []struct{ Why, ToNode string }
		Missing []string
	}
	service := func(name string) string { return fmt.Sprintf("service/%s/%s", e.ns, name) }
	pod := func(name string) string { return fmt.Sprintf("workload/%s/Pod/%s", e.ns, name) }
	want := []edge{
		{From: pod("other"), To: service("server"), PerSecond: 20, Failed: 25, MTLS: "all"},
		{From: pod("web"), To: service("nobody"), PerSecond: 10, Failed: 100},
		{From: pod("web"), To: service("server"), PerSecond: 20, MTLS: "all"},
	}
	var said page
	e.eventually(time.Minute, func() (string, error) {
		res, err := http.Get(address + "api/traffic")
		if err != nil {
			return err.Error(), nil //nolint:nilerr // it may begin to listen soon
		}
		defer res.Body.Close()
		said = page{}
		if err := json.NewDecoder(res.Body).Decode(&said); err != nil {
			return "", err
		}
		if said.Seconds == 0 || len(said.Graph.Edges) < len(want) {
			return fmt.Sprintf("after %.0f s %d of %d edges", said.Seconds, len(said.Graph.Edges), len(want)), nil
		}
		return "", nil
	})
	for i, e := range said.Graph.Edges {
		w := want[min(i, len(want)-1)]
		failed := 100 * float64(e.Failed) / float64(max(e.Requests, 1))
		if e.From != w.From || e.To != w.To || math.Abs(e.PerSecond-w.PerSecond) > 0.25*w.PerSecond || math.Abs(failed-float64(w.Failed)) > 10 || e.MTLS != w.MTLS || e.P99 == nil && w.Failed < 100 {
			t.Errorf("edge %+v with %.0f %% failed, want %+v", e, failed, w)
		}
	}
	why := ""
	for _, c := range said.Calls {
		if c.ToNode == service("nobody") {
			why = c.Why
		}
	}
	if !strings.Contains(why, "no-endpoint") {
		t.Errorf("calls to nobody fail because of %q, want no-endpoint", why)
	}
	if res, err := http.Get(address); err != nil || res.StatusCode != http.StatusOK {
		t.Errorf("the page: %v, %v", res, err)
	} else {
		res.Body.Close()
	}
	for _, l := range loads {
		l.stop()
	}
}
