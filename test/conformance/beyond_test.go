package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/gateway-api/conformance/utils/echo"
	"sigs.k8s.io/gateway-api/conformance/utils/http"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
)

// call is one call from the suite's echo-v1 pod to a host of its namespace, and all that is to be seen of it:
// the backend and the path that it saw, or the status and, of a redirect, the location.
type call struct{ host, path, want string }

// beyond is what the suite does not look at: its comparer of mesh answers reads neither the path that arrived nor
// the location of a redirect (conformance/utils/echo/pod.go, compareRequest), and no test of a mesh has a request that
// matches no rule, or a backend that is missing or not granted.
var beyond = map[string][]call{
	"tests/mesh/httproute-rewrite-path.yaml": {
		{"echo", "/prefix/one/two", "echo-v1 /one/two"},
		{"echo", "/prefix/one/two?q=1", "echo-v1 /one/two?q=1"},
		{"echo", "/strip-prefix/three", "echo-v1 /three"},
		{"echo", "/strip-prefix", "echo-v1 /"},
		{"echo", "/full/one/two", "echo-v1 /one"},
		{"echo", "/full/rewrite-path-and-modify-headers/test", "echo-v1 /test"},
		{"echo", "/prefix/rewrite-path-and-modify-headers/one", "echo-v1 /prefix/one"},
		{"echo", "/prefix", "404"},
	},
	"tests/mesh/httproute-redirect-host-and-status.yaml": {
		{"echo", "/hostname-redirect", "302 http://example.org/hostname-redirect"},
		{"echo", "/host-and-status?q=1", "301 http://example.org/host-and-status?q=1"},
	},
	"tests/mesh/httproute-redirect-path.yaml": {
		{"echo", "/original-prefix/lemon", "302 http://echo/replacement-prefix/lemon"},
		{"echo", "/full/path/original", "302 http://echo/full-path-replacement"},
		{"echo", "/path-and-host", "302 http://example.org/replacement-prefix"},
		{"echo", "/path-and-status", "301 http://echo/replacement-prefix"},
		{"echo", "/full-path-and-host", "302 http://example.org/replacement-full"},
		{"echo", "/full-path-and-status", "301 http://echo/replacement-full"},
	},
	"tests/mesh/httproute-redirect-port.yaml": {
		{"echo", "/port", "302 http://echo:8083/port"},
		{"echo", "/port-and-host", "302 http://example.org:8083/port-and-host"},
		{"echo", "/port-and-status", "301 http://echo:8083/port-and-status"},
		{"echo", "/port-and-host-and-status", "302 http://example.org:8083/port-and-host-and-status"},
	},
	"tests/mesh/httproute-redirect-scheme.yaml": {
		{"echo", "/scheme", "302 https://echo/scheme"},
		{"echo", "/scheme-and-host", "302 https://example.org/scheme-and-host"},
		{"echo", "/scheme-and-status", "301 https://echo/scheme-and-status"},
		{"echo", "/scheme-and-host-and-status", "302 https://example.org/scheme-and-host-and-status"},
	},
	"tests/mesh/httproute-303-redirect.yaml": {{"echo", "/redirect", "303 http://echo/redirect"}},
	"tests/mesh/httproute-307-redirect.yaml": {{"echo", "/temporary", "307 http://echo/temporary"}},
	"tests/mesh/httproute-308-redirect.yaml": {{"echo", "/permanent", "308 http://echo/permanent"}},
	"tests/mesh/httproute-named-rule.yaml":   {{"echo", "/named", "echo-v1 /named"}, {"echo", "/unnamed", "echo-v2 /unnamed"}},
	"testdata/beyond.yaml": {
		{"echo", "/served", "echo-v1 /served"},
		{"echo", "/redirected", "302 http://example.org/redirected"},
		// A redirect that names neither scheme nor port keeps the port of the call.
		{"echo:8080", "/redirected", "302 http://example.org:8080/redirected"},
		{"echo:8080", "/moved", "302 http://echo:8080/new"},
		{"echo", "/other", "404"},
		{"echo", "/no-grant", "500"},
		{"echo", "/no-service", "500"},
	},
	"testdata/beyond-grant.yaml": {{"echo", "/granted", "echo-v1 /granted"}},
}

// unresolved routes are to say why; of all others, those of the suite too, every condition is true.
var unresolved = map[string]string{
	"beyond-unresolved":           "RefNotPermitted BackendNotFound",
	"beyond-grpc":                 "BackendNotFound",
	"mesh-grpc-weighted-backends": "BackendNotFound", // the suite's, of which a backend with weight 0 is missing
}

// testBeyond runs on the suite's pods, with the suite's manifests of every mesh test and two of our own.
func testBeyond(t *testing.T, s *suite.ConformanceTestSuite) {
	manifests := []string{"testdata/beyond.yaml", "testdata/beyond-grant.yaml"}
	for _, test := range meshTests() {
		manifests = append(manifests, test.Manifests...)
	}
	slices.Sort(manifests)
	manifests = slices.Compact(manifests)
	for name := range beyond {
		if !slices.Contains(manifests, name) {
			t.Errorf("the suite has no %s any more", name)
		}
	}
	client := echo.ConnectToApp(t, s, echo.MeshAppEchoV1)
	for _, name := range manifests {
		t.Run(name, func(t *testing.T) {
			s.Applier.MustApplyWithCleanup(t, s.Client, s.TimeoutConfig, name, true)
			routesAreAccepted(t, s)
			for _, c := range beyond[name] {
				t.Run(c.host+c.path, func(t *testing.T) { eventually(t, s, func() string { return answer(t, client, c) }, c.want) })
			}
		})
	}
}

// answer makes a call and says what became of it.
func answer(t *testing.T, client echo.MeshPod, c call) string {
	code := 200
	if _, err := fmt.Sscanf(c.want, "%d", &code); err != nil {
		code = 200
	}
	_, res, err := client.CaptureRequestResponseAndCompare(t, http.ExpectedResponse{
		Request: http.Request{Host: c.host, Path: c.path}, Response: http.Response{StatusCodes: []int{code}},
	})
	switch location := res.ResponseHeaders.Get("Location"); {
	case err != nil:
		return err.Error()
	case code == 200: // a pod is named echo-v1-849f567bd-48wf2
		return strings.Join(strings.SplitN(res.Hostname, "-", 3)[:2], "-") + " " + res.URL
	case location != "":
		return res.Code + " " + location
	default:
		return res.Code
	}
}

// eventually waits as the suite does, for several right answers in a row, and says what came last.
func eventually(t *testing.T, s *suite.ConformanceTestSuite, get func() string, want string) {
	t.Helper()
	var got string
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("got %q, want %q", got, want)
		}
	})
	http.AwaitConvergence(t, s.TimeoutConfig.RequiredConsecutiveSuccesses, s.TimeoutConfig.MaxTimeToConsistency, func(time.Duration) bool {
		got = get()
		return got == want
	})
}
