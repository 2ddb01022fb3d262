// Package imports holds the module's import rules: which package may depend on what, directly or
// through others. docs/architecture.md says why.
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mizzen-mesh/mizzen"

// Dependencies that rules speak of.
const (
	clientGo   = "k8s.io/client-go"
	runtime    = "sigs.k8s.io/controller-runtime"
	envoyProto = "github.com/envoyproxy/go-control-plane"
	grpc       = "google.golang.org/grpc"
	kubernetes = "k8s.io"
	kubeSIGs   = "sigs.k8s.io"
)

// rules forbid a package (and what lies below it) to depend on others (and what lies below them).
var rules = []struct {
	pkg    string
	forbid []string
}{
	{"/config", []string{clientGo, runtime, envoyProto, grpc, module + "/xds", module + "/webhook", module + "/internal"}},
	{"/config/fixed", []string{kubernetes, kubeSIGs, envoyProto, grpc, module}},
	{"/webhook", []string{envoyProto, module + "/xds", module + "/internal/agent"}},
	{"/xds", []string{module + "/webhook", module + "/internal/webhookcert", module + "/internal/ca", module + "/internal/casecret", module + "/internal/identity"}},
	{"/xds/mesh", []string{clientGo, runtime, envoyProto, grpc}},
	{"/xds/envoy", []string{clientGo, runtime}},
	{"/xds/translate", []string{clientGo, runtime, module + "/xds/kube", module + "/xds/server", module + "/xds/status"}},
	{"/xds/server", []string{clientGo, runtime, module + "/xds/kube"}},
	{"/xds/peers", []string{clientGo, runtime, grpc + "/", module + "/xds/kube", module + "/xds/server"}},
	{"/xds/kube", []string{envoyProto, module + "/xds/envoy", module + "/xds/server"}},
	{"/xds/status", []string{envoyProto, module + "/xds/envoy", module + "/xds/server", module + "/xds/kube"}},
	{"/internal/agent", []string{kubernetes, kubeSIGs, module + "/xds", module + "/webhook"}},
	{"/internal/agentapi", []string{kubernetes, envoyProto, grpc, module}},
	{"/internal/capture", []string{kubernetes, kubeSIGs, envoyProto, grpc, module + "/xds", module + "/webhook"}},
	{"/internal/cni", []string{runtime, envoyProto, grpc, module + "/xds", module + "/webhook", module + "/internal/agent"}},
	{"/internal/cni/api", []string{clientGo}},
	{"/internal/cni/conflist", []string{kubernetes, module}},
	{"/internal/cni/install", []string{kubernetes}},
	{"/internal/cni/plugin", []string{kubernetes, kubeSIGs}},
	{"/cmd/mizzen-cni", []string{kubernetes, kubeSIGs}},
	{"/internal/ca", []string{kubernetes, envoyProto, grpc, module + "/xds", module + "/webhook"}},
	{"/internal/casecret", []string{envoyProto, grpc, module + "/config", module + "/xds", module + "/webhook", module + "/internal/agent", module + "/internal/identity", module + "/internal/webhookcert"}},
	{"/internal/rotation", []string{kubernetes, envoyProto, grpc, module + "/xds", module + "/webhook"}},
	{"/internal/spiffe", []string{clientGo, runtime, envoyProto, grpc, module}},
	{"/internal/gateway", []string{envoyProto, grpc, module + "/webhook", module + "/internal/agent", module + "/xds/envoy", module + "/xds/server"}},
	{"/internal/dashboard", []string{kubernetes, kubeSIGs, envoyProto, grpc, module + "/api", module + "/config", module + "/xds", module + "/webhook", module + "/internal/agent", module + "/internal/ctl"}},
	{"/internal/httpjson", []string{kubernetes, envoyProto, grpc, module}},
	{"/internal/kubescheme", []string{runtime, envoyProto, grpc, module + "/config", module + "/xds", module + "/webhook", module + "/internal"}},
	{"/internal/listentest", []string{kubernetes, envoyProto, grpc, module}},
	{"/internal/lookout", []string{envoyProto, grpc, module}},
	{"/internal/metricsdoc", []string{kubernetes, envoyProto, grpc, module + "/xds", module + "/webhook", module + "/internal/agent"}},
	{"/internal/netlimit", []string{kubernetes, envoyProto, grpc, module}},
	{"/internal/replicas", []string{kubernetes, envoyProto, grpc, module}},
	{"/internal/identity", []string{module + "/xds", module + "/webhook", module + "/internal/agent"}},
	{"/internal/identity/issuer", []string{module + "/internal/identity/kube"}},
	{"/internal/identity/api", []string{kubernetes, envoyProto, grpc, module}},
	{"/cmd", []string{module + "/internal/casecret/casecrettest", module + "/internal/kubetest", module + "/internal/xdstest"}},
	{"/internal/kubetest", []string{envoyProto, grpc, module + "/webhook", module + "/internal/agent", module + "/xds/server"}},
	{"/internal/xdstest", []string{module + "/internal/agent", module + "/internal/ctl", module + "/test"}},
	{"/internal/kubecache", []string{envoyProto, grpc, module + "/webhook", module + "/internal/agent", module + "/internal/identity/kube"}},
	{"/internal/sds", []string{kubernetes, module + "/xds", module + "/webhook", module + "/internal/agent"}},
	{"/internal/node", []string{kubernetes, kubeSIGs, module + "/xds", module + "/webhook"}},
	{"/internal/sidecar", []string{clientGo, runtime, envoyProto, grpc, module + "/xds", module + "/webhook", module + "/internal/agent", module + "/internal/capture"}},
	{"/internal/sidecar/contract", []string{kubernetes, kubeSIGs}},
	{"/internal/socketlb", []string{kubernetes, envoyProto, grpc, module}},
	{"/internal/appprobe", []string{kubernetes, kubeSIGs, envoyProto, grpc, module}},
	{"/internal/ctl", []string{module + "/xds/kube", module + "/xds/server", module + "/internal/agent"}},
	{"/cmd/mizzen-proxy", []string{kubernetes, kubeSIGs, envoyProto + "/envoy/config/bootstrap", envoyProto + "/envoy/config/cluster", envoyProto + "/envoy/config/listener", envoyProto + "/envoy/config/route", envoyProto + "/envoy/extensions/filters", module + "/xds", module + "/webhook"}},
	{"/cmd/mizzenctl", []string{module + "/internal/agent"}},
}

func TestRules(t *testing.T) {
	packages := list(t)
	for _, rule := range rules {
		applied := false
		for pkg, deps := range packages {
			if !within(pkg, module+rule.pkg) {
				continue
			}
			applied = true
			for _, dep := range deps {
				if i := slices.IndexFunc(rule.forbid, func(f string) bool { return within(dep, f) }); i >= 0 {
					t.Errorf("%s depends on %s; %s must not depend on %s (`go list -deps` tells how)", pkg, dep, rule.pkg, rule.forbid[i])
				}
			}
		}
		if !applied {
			t.Errorf("no package %s: the rule holds nothing", rule.pkg)
		}
	}
}

func within(pkg, root string) bool { return pkg == root || strings.HasPrefix(pkg, root+"/") }

// list gives every package of the module with all it depends on.
func list(t *testing.T) map[string][]string {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Deps", module+"/...").Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		t.Fatalf("go list: %v\n%s", err, exit.Stderr)
	} else if err != nil {
		t.Fatal(err)
	}
	packages := map[string][]string{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p.Deps
	}
}
