package agent

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"path/filepath"
	"testing"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/internal/agent/bootstraptest"
	"github.com/mizzen-mesh/mizzen/internal/envoytest"
	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

func testSettings(controlPlane string, ips ...string) Settings {
	s := Defaults()
	s.ControlPlane = controlPlane
	s.Node = node.Node{
		Namespace: "shop", Pod: "cart-7d4b9-x2x", UID: "0c5a", ServiceAccount: "cart", NodeName: "node-1", Version: "v1",
	}
	for _, ip := range ips {
		s.Node.IPs = append(s.Node.IPs, netip.MustParseAddr(ip))
	}
	return s
}

func withAddress(s Settings) Settings {
	s.IdentityAddress = "mizzen-controller.mizzen-system.svc.cluster.local:15012"
	return s
}

func TestBootstrapGolden(t *testing.T) {
	const service = "mizzen-controller.mizzen-system.svc.cluster.local:15010"
	demand := testSettings(service, "10.1.2.3")
	demand.Node.ConfigScope, demand.Node.Workload = fixed.ScopeDemand, "Deployment/cart"
	logging := testSettings(service, "10.1.2.3")
	logging.LogAnswers = true
	edge := withAddress(testSettings(service, "10.1.2.3"))
	edge.Gateway, edge.Node.Gateway = true, true
	limited := edge
	limited.MemoryLimit = 512 << 20
	small := testSettings(service, "10.1.2.3")
	small.MemoryLimit = 128 << 20
	for _, tt := range []struct {
		name     string
		settings Settings
	}{
		{"gateway", edge},
		{"gateway-with-memory-limit", limited},
		{"log-answers", logging},
		{"memory-limit", small},
		{"ipv4", testSettings(service, "10.1.2.3")},
		{"ipv6", testSettings(service, "fd00::3")},
		{"dual-stack", testSettings(service, "10.1.2.3", "fd00::3")},
		{"short-name", testSettings("mizzen-controller.mizzen-system:15010", "10.1.2.3")},
		{"scope-and-workload", demand},
		{"identity", withAddress(testSettings(service, "10.1.2.3"))},
		{"identity-address", withAddress(testSettings("[fd00::1]:15010", "fd00::3"))},
		{"address", testSettings("[fd00::1]:15010", "fd00::3")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw, err := Bootstrap(tt.settings)
			if err != nil {
				t.Fatal(err)
			}
			b, err := bootstraptest.Read(raw, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.ValidateAll(); err != nil {
				t.Error(err)
			}
			canonical, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			var pretty bytes.Buffer // protojson varies its white space on purpose
			if err := json.Indent(&pretty, canonical, "", "  "); err != nil {
				t.Fatal(err)
			}
			pretty.WriteByte('\n')
			golden.Check(t, filepath.Join("testdata", "bootstrap-"+tt.name+".json"), pretty.Bytes())
			t.Run("envoy", func(t *testing.T) { // which watches a file of a gateway
				envoytest.Validate(t, bytes.ReplaceAll(raw, []byte(fixed.ProxyDir), []byte(t.TempDir())))
			})
		})
	}
}

// Envoy asks once for a secret of the bootstrap and of the control plane's clusters, because both say the same of it.
func TestSecretsAsTheControlPlaneHasThem(t *testing.T) {
	for _, name := range []string{sds.Workload, sds.Bundle} {
		raw, err := json.Marshal(secretConfig(name))
		if err != nil {
			t.Fatal(err)
		}
		got := &tlsv3.SdsSecretConfig{}
		if err := protojson.Unmarshal(raw, got); err != nil {
			t.Fatal(err)
		}
		if want := sds.Config(name); !proto.Equal(got, want) {
			t.Errorf("%s: %v\nwant %v", name, got, want)
		}
	}
}
