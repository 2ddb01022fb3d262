#!/usr/bin/env bash
# The conformance suite of the Gateway API 1.6.3 (module sigs.k8s.io/gateway-api/conformance) has a test for the extended feature
# GatewayAddressEmpty: a Gateway that asks for an address of type IPAddress without a value. The manifest never reaches the API
# server in this form. The suite's Applier replaces spec.addresses of each Gateway by the addresses that stand for its placeholders
# and drops all others, so the test applies a Gateway with an empty list, and passes whether the feature works or not.
#
# Output seen on 2026-11-30:
#   in the manifest: [map[type:IPAddress]]
#   as the suite applies it: []
#   unchanged: the test of GatewayAddressEmpty asks for no address
#
# Needs Go. Exits 0 while that holds, 1 when it has changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat >seen_test.go <<'GO'
package seen

import (
	"fmt"
	"io/fs"
	"os"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/conformance"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/kubernetes"
	"sigs.k8s.io/yaml"
)

const manifest = "tests/gateway-optional-address-value.yaml"

func TestSeen(t *testing.T) {
	text, err := fs.ReadFile(conformance.Manifests, manifest)
	if err != nil {
		t.Fatal(err)
	}
	var written unstructured.Unstructured
	if err := yaml.Unmarshal(text, &written.Object); err != nil {
		t.Fatal(err)
	}
	before, _, _ := unstructured.NestedSlice(written.Object, "spec", "addresses")

	scheme := runtime.NewScheme()
	if err := gatewayv1.Install(scheme); err != nil {
		t.Fatal(err)
	}
	c := fake.NewClientBuilder().WithScheme(scheme).Build()
	applier := kubernetes.Applier{ManifestFS: []fs.FS{conformance.Manifests}, GatewayClass: "any", ControllerName: "example.com/any"}
	applier.MustApplyWithCleanup(t, c, config.DefaultTimeoutConfig(), manifest, false)
	var applied gatewayv1.Gateway
	key := client.ObjectKey{Namespace: written.GetNamespace(), Name: written.GetName()}
	if err := c.Get(t.Context(), key, &applied); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create("seen.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	fmt.Fprintln(out, "in the manifest:", before)
	fmt.Fprintln(out, "as the suite applies it:", applied.Spec.Addresses)
	if len(before) == 1 && len(applied.Spec.Addresses) == 0 {
		fmt.Fprintln(out, "unchanged: the test of GatewayAddressEmpty asks for no address")
	} else {
		fmt.Fprintln(out, "changed")
	}
}
GO
cat >go.mod <<'MOD'
module seen

go 1.26

require (
	sigs.k8s.io/gateway-api v1.6.3
	sigs.k8s.io/gateway-api/conformance v1.6.3
)
MOD
go mod tidy >tidy.log 2>&1 || { cat tidy.log; exit 2; }
go test -count=1 . >test.log 2>&1 || { cat test.log; exit 2; }
cat seen.txt
grep -q '^unchanged' seen.txt
