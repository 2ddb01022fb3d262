package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// mizzenctl stat counts calls of known outcome exactly, each between the right two ends: answers of servers over HTTP and gRPC,
// answers of the sidecar, and connections.
func TestStat(t *testing.T) {
	beside(t)
	if withoutMesh {
		t.Skip("there is no mesh")
	}
	e := newEnv(t, true)
	const echoPort, slowPort = 4445, 8081
	e.deploy("server", 2, serverPod("server", "--http=:8080", "--grpc=:50051", "--echo=:4445"))
	e.service("server", "server", port("http", httpPort), port("grpc", grpcPort), port("tcp", echoPort))
	e.apply(fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: slow, annotations: {%s: 200ms}}\nspec: {selector: {app: server}, ports: [{name: http, port: %d, targetPort: %d}]}",
		config.AnnotationTimeout, slowPort, httpPort))
	e.service("nobody", "nobody", port("http", httpPort), port("grpc", grpcPort))
	web, other := e.callerAs("web", nil), e.callerAs("other", nil)
	e.ready("server")
	get := func(service string, port int, path string) api.Call {
		return api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://%s:%d%s", service, port, path)}
	}
	grpc := func(service string, code int32) api.Call {
		return api.Call{Kind: api.GRPC, Target: fmt.Sprintf("%s:%d", service, grpcPort), Code: code}
	}
	echo := api.Call{Kind: api.Echo, Target: fmt.Sprintf("server:%d", echoPort)}
	slow := get("slow", slowPort, "/")
	e.reachable(web, httpCall, grpcCall, echo, slow)
	e.reachable(other, httpCall)
	e.answered(web, get("nobody", httpPort, "/"), 10*time.Second, func(a api.Answer) bool { return a.Status == 503 })

	type calls struct {
		Requests, Failed     int64
		Codes, GRPC, Reasons map[string]int64
		Opened               int64
	}
	run := e.mizzenctl()
	read := func() map[string]calls {
		out, _, err := run("stat", "-n", e.ns, "--from", e.ns, "--window", "0", "-o", "json")
		e.must(err)
		var said struct {
			Calls []struct {
				From struct{ Workload string }
				To   struct {
					Service string
					Port    int
				}
				calls
				Connections struct{ Opened int64 }
			}
		}
		e.must(json.Unmarshal([]byte(out), &said))
		got := map[string]calls{}
		for _, c := range said.Calls {
			of := c.calls
			if c.To.Port == echoPort {
				of.Opened = c.Connections.Opened
			}
			got[fmt.Sprintf("%s to %s:%d", c.From.Workload, c.To.Service, c.To.Port)] = of
		}
		return got
	}
	steady := e.startLoad(other, api.Load{Call: get("server", httpPort, "/"), Rate: 20, Duration: 20 * time.Second})
	out, _, err := run("stat", "server."+e.ns, "--from", "other."+e.ns, "--window", "6s", "-o", "json")
	e.must(err)
	var rates struct {
		Seconds float64
		Calls   []struct {
			PerSecond       float64
			P50Milliseconds *float64
		}
	}
	e.must(json.Unmarshal([]byte(out), &rates))
	if len(rates.Calls) != 1 || rates.Seconds < 6 || math.Abs(rates.Calls[0].PerSecond-20) > 4 || rates.Calls[0].P50Milliseconds == nil {
		t.Errorf("20 calls a second: %s", out)
	}
	steady.stop()
	before := read()
	slow.Delay = 2 * time.Second
	var loads []*load
	for _, l := range []struct {
		from  cluster.Pod
		call  api.Call
		calls int
	}{
		{web, get("server", httpPort, "/"), 300},
		{web, get("server", httpPort, "/status?code=404"), 20},
		{web, get("server", httpPort, "/status?code=503"), 10},
		{other, get("server", httpPort, "/"), 100},
		{web, grpc("server", 0), 200},
		{web, grpc("server", 5), 7},
		{web, grpc("server", 14), 5},
		{web, get("nobody", httpPort, "/"), 12},
		{web, grpc("nobody", 0), 6},
		{web, slow, 4},
		{web, echo, 3},
	} {
		loads = append(loads, e.startLoad(l.from, api.Load{Call: l.call, Calls: l.calls, Fresh: l.call.Kind == api.Echo}))
	}
	for _, l := range loads {
		l.wait(time.Minute)
	}
	want := map[string]calls{
		"Pod/web to server:8080":   {330, 10, map[string]int64{"200": 300, "404": 20, "503": 10}, nil, nil, 0},
		"Pod/other to server:8080": {100, 0, map[string]int64{"200": 100}, nil, nil, 0},
		"Pod/web to server:50051":  {212, 5, map[string]int64{"200": 212}, map[string]int64{"NOT_FOUND": 7, "UNAVAILABLE": 5}, nil, 0},
		"Pod/web to nobody:8080":   {12, 12, map[string]int64{"503": 12}, nil, map[string]int64{"no-endpoint": 12}, 0},
		"Pod/web to nobody:50051":  {6, 6, map[string]int64{"503": 6}, map[string]int64{"UNAVAILABLE": 6}, map[string]int64{"no-endpoint": 6}, 0},
		"Pod/web to slow:8081":     {4, 4, map[string]int64{"504": 4}, nil, map[string]int64{"timeout": 4}, 0},
		"Pod/web to server:4445":   {0, 0, nil, nil, nil, 3},
	}
	since := func(after, before map[string]int64) map[string]int64 {
		var out map[string]int64
		for name, n := range after {
			if n -= before[name]; n > 0 {
				if out == nil {
					out = map[string]int64{}
				}
				out[name] = n
			}
		}
		return out
	}
	e.eventually(15*time.Second, func() (string, error) {
		got := map[string]calls{}
		for name, c := range read() {
			b := before[name]
			got[name] = calls{c.Requests - b.Requests, c.Failed - b.Failed, since(c.Codes, b.Codes), since(c.GRPC, b.GRPC), since(c.Reasons, b.Reasons), c.Opened - b.Opened}
		}
		return cmp.Diff(want, got), nil
	})
}
