package sidecar_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// A pod keeps for its life what it was injected with, and is understood for as long. The files are pods as the injector made them at some
// commit, and are never written anew.
func TestPodsOfEarlierVersions(t *testing.T) {
	const name = "mizzen-controller.mizzen-system.svc.cluster.local"
	for file, want := range map[string]struct {
		captured contract.Captured
		run      contract.Run
		byCNI    bool
		workload string
	}{
		"first-version": { // af6ceb8
			captured: contract.Captured{
				ExcludeInboundPorts: []uint16{9100, 9101, 15020}, ExcludeOutboundPorts: []uint16{5432},
				ExcludeOutboundCIDRs: []netip.Prefix{netip.MustParsePrefix("169.254.169.254/32"), netip.MustParsePrefix("fd00::/8")},
			},
			run: contract.Run{ControlPlane: "mizzen.example:15010", LogLevel: "debug"},
		},
		"without-identity": { // 66c85f9
			captured: contract.Captured{ExcludeInboundPorts: []uint16{15020}},
			run:      contract.Run{ControlPlane: name + ":15010", LogLevel: "warning", Concurrency: 2, ConfigScope: config.ScopeNamespace},
		},
		"capture-before-proxy": { // 66c85f9
			captured: contract.Captured{CapturesOwnCalls: true, ExcludeInboundPorts: []uint16{15020}},
			run:      contract.Run{ControlPlane: name + ":15010", LogLevel: "warning", Concurrency: 2, IdentityAddress: name + ":15012"},
		},
		"captured-by-the-node": { // 0381568
			captured: contract.Captured{CapturesOwnCalls: true, ExcludeInboundPorts: []uint16{15020}},
			run: contract.Run{
				ControlPlane: name + ":15010", LogLevel: "warning", Concurrency: 2, IdentityAddress: name + ":15012", CaptureByCNI: true,
			},
			byCNI: true,
		},
	} {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("testdata", file+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			pod := &corev1.Pod{}
			if err := yaml.UnmarshalStrict(text, pod); err != nil {
				t.Fatal(err)
			}
			if !sidecar.Has(pod) || sidecar.CapturedByCNI(pod) != want.byCNI {
				t.Fatalf("has a sidecar: %v; captured by its node: %v", sidecar.Has(pod), sidecar.CapturedByCNI(pod))
			}
			if got, err := sidecar.Captured(&pod.Spec); err != nil || !reflect.DeepEqual(got, want.captured) {
				t.Errorf("captured %+v, %v, want %+v", got, err, want.captured)
			}
			if bundle, ok := sidecar.TrustBundle(&pod.Spec); ok != (want.run.IdentityAddress != "") || ok && !strings.HasPrefix(bundle, "-----BEGIN CERTIFICATE-----") {
				t.Errorf("trust bundle %q, %v", bundle, ok)
			}
			proxy := sidecar.Proxy(&pod.Spec)
			var run contract.Run
			f := pflag.NewFlagSet(file, pflag.ContinueOnError)
			f.ParseErrorsAllowlist.UnknownFlags = true
			run.Add(f, nil)
			if err := f.Parse(proxy.Args); err != nil || run != want.run {
				t.Errorf("run %+v, %v, want %+v", run, err, want.run)
			}
			env, err := contract.ReadEnv(kubelet(proxy.Env))
			if err != nil || env.Pod != "the pod" || env.UID != "the uid" || env.NodeName != "the node" || !reflect.DeepEqual(env.IPs, []netip.Addr{netip.MustParseAddr("10.0.0.1")}) {
				t.Errorf("environment %+v, %v", env, err)
			}
		})
	}
}

// kubelet looks up what the pod says of a variable.
func kubelet(env []corev1.EnvVar) func(string) string {
	fields := map[string]string{
		"metadata.name": "the pod", "metadata.namespace": "its namespace", "metadata.uid": "the uid", "spec.serviceAccountName": "its account",
		"spec.nodeName": "the node", "status.podIPs": "10.0.0.1",
	}
	return func(name string) string {
		for _, e := range env {
			if e.Name == name && e.ValueFrom != nil {
				return fields[e.ValueFrom.FieldRef.FieldPath]
			} else if e.Name == name {
				return e.Value
			}
		}
		return ""
	}
}
