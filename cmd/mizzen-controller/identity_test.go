package main

import (
	"slices"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
)

// Sidecars verify the name that they connect to.
func TestServingLeaf(t *testing.T) {
	const short, long = "mizzen-controller.mizzen-system.svc", "mizzen-controller.mizzen-system.svc.corp.example"
	for name, tt := range map[string]struct {
		address string
		names   []string
		ip      string
	}{
		"the Service":     {long + ":15010", []string{short, long}, ""},
		"its short name":  {short + ":15010", []string{short, long}, ""},
		"another name":    {"mesh.example:443", []string{short, long, "mesh.example"}, ""},
		"an address":      {"10.1.2.3:15010", []string{short, long}, "10.1.2.3"},
		"an IPv6 address": {"[fd00::3]:15010", []string{short, long}, "fd00::3"},
	} {
		t.Run(name, func(t *testing.T) {
			mesh, err := config.Parse([]byte("{trustDomain: mesh.example, clusterDomain: corp.example, controlPlaneAddress: '" + tt.address + "'}"))
			if err != nil {
				t.Fatal(err)
			}
			o := defaultOptions()
			o.namespace = "mizzen-system"
			leaf, err := servingLeaf(o, mesh)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(leaf.DNSNames, tt.names) {
				t.Errorf("names %q, want %q", leaf.DNSNames, tt.names)
			}
			if want := "spiffe://mesh.example/ns/mizzen-system/sa/mizzen-controller"; len(leaf.URIs) != 1 || leaf.URIs[0].String() != want {
				t.Errorf("URIs %v, want %s", leaf.URIs, want)
			}
			if tt.ip == "" && len(leaf.IPs) > 0 || tt.ip != "" && (len(leaf.IPs) != 1 || leaf.IPs[0].String() != tt.ip) {
				t.Errorf("addresses %v, want %s", leaf.IPs, tt.ip)
			}
		})
	}
}

// Every lifetime that the configuration allows is one with which a rotation ends in time.
func TestIdentityPolicy(t *testing.T) {
	for _, doc := range []string{
		"{}", "{identity: {caLifetime: 6m, certificateLifetime: 2m, caSettle: 1m}}", "{identity: {caLifetime: 6m, certificateLifetime: 2m, caSettle: 1s}}",
		"{identity: {caLifetime: 876000h, certificateLifetime: 292000h, caSettle: 146000h}}",
	} {
		mesh, err := config.Parse([]byte(doc))
		if err != nil {
			t.Fatal(err)
		}
		if err := identityLifetimes(mesh).Validate(); err != nil {
			t.Errorf("%s: %v", doc, err)
		}
	}
}
