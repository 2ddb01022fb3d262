package xds_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// fleet gives the real Envoy the clusters of some Services, with endpoints that may change.
type fleet struct {
	t        *testing.T
	cfg      *config.Mesh
	dir      string
	version  int
	clusters []*clusterv3.Cluster
	services map[string]*mesh.Service
	members  map[string][]netip.AddrPort
	// identities of endpoints; nil in a mesh without.
	identities map[netip.AddrPort]string
	address    string
}

func newFleet(t *testing.T, services ...*mesh.Service) *fleet {
	t.Helper()
	f := &fleet{t: t, dir: t.TempDir(), cfg: configtest.WithoutIdentity(), services: map[string]*mesh.Service{}, members: map[string][]netip.AddrPort{}}
	for _, svc := range services {
		f.services[svc.Name] = svc
	}
	return f
}

// set changes the endpoints of a Service.
func (f *fleet) set(name string, members ...netip.AddrPort) {
	f.t.Helper()
	f.members[name] = members
	f.version++
	var endpoints []mesh.Endpoint
	for _, m := range members {
		endpoints = append(endpoints, mesh.Endpoint{Addr: m, Identity: f.identities[m]})
	}
	f.setVariant(name, "", endpoints)
}

// setVariant is set for proxies of a variant.
func (f *fleet) setVariant(name, variant string, endpoints []mesh.Endpoint) {
	f.t.Helper()
	svc := f.services[name]
	key := mesh.EndpointsKey{Service: svc.Key, Port: 80, Family: mesh.IPv4}
	resources := envoy.EndpointResources(svc, key, endpoints)
	i := slices.IndexFunc(resources, func(r envoy.Resource) bool { return r.Variant == variant })
	json, err := protojson.Marshal(&discoveryv3.DiscoveryResponse{
		VersionInfo: fmt.Sprint(f.version), Resources: []*anypb.Any{pack(f.t, resources[i].Message)},
	})
	if err != nil {
		f.t.Fatal(err)
	}
	if err := os.WriteFile(f.file(name)+".new", json, 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(f.file(name)+".new", f.file(name)); err != nil { // Envoy watches for moves
		f.t.Fatal(err)
	}
}

// file holds the endpoints of one Service: Envoy takes no more from one.
func (f *fleet) file(service string) string { return filepath.Join(f.dir, service+".json") }

// load takes the clusters whose names begin so.
func (f *fleet) load(prefix string) {
	f.t.Helper()
	for _, svc := range f.services {
		for _, r := range envoy.ServiceResources(svc, nil, f.cfg) {
			c, ok := r.Message.(*clusterv3.Cluster)
			if !ok || !strings.HasPrefix(r.Name, prefix) {
				continue
			}
			c.EdsClusterConfig.EdsConfig = &corev3.ConfigSource{
				ResourceApiVersion: corev3.ApiVersion_V3,
				ConfigSourceSpecifier: &corev3.ConfigSource_PathConfigSource{
					PathConfigSource: &corev3.PathConfigSource{Path: f.file(svc.Name)},
				},
			}
			f.clusters = append(f.clusters, c)
		}
	}
}

// serve starts Envoy with the rules of Service cart; nil for the implicit one.
func (f *fleet) serve(rules []mesh.Rule) {
	f.t.Helper()
	f.load("outbound/")
	svc := f.services["cart"]
	if rules == nil {
		rules = []mesh.Rule{mesh.Implicit(svc, 80)}
	}
	var routes *routev3.RouteConfiguration
	for _, r := range envoy.ServiceResources(svc, map[uint16]mesh.PortRules{80: {Producer: rules}}, f.cfg) {
		if rc, ok := r.Message.(*routev3.RouteConfiguration); ok {
			routes = rc
		}
	}
	routes.ResponseHeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-flags", Value: "%RESPONSE_FLAGS%"}}}
	f.address = startEnvoy(f.t, routes, f.clusters...)
}

// get gives the answer and who gave it.
func (f *fleet) get(path string, headers ...string) (*http.Response, string) {
	f.t.Helper()
	r := mesh.Request{Method: "GET", Path: path, Headers: map[string][]string{}}
	for i := 0; i < len(headers); i += 2 {
		r.Headers[headers[i]] = append(r.Headers[headers[i]], headers[i+1])
	}
	return send(f.t, f.address, "cart", r)
}

// named is a backend that says its name.
func named(t *testing.T, name string) *backend {
	return startBackend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, name) })
}

func failing(t *testing.T) *backend {
	return startBackend(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) })
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !condition(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 15 s: %s", what)
		}
	}
}
