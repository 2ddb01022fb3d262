package envoy

import (
	"fmt"
	"slices"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// httpChains look at each request. What is not HTTP fails there.
//
// Their TLS chooses no ALPN: the client's offer has chosen the chain already, and with one chosen Envoy would take
// everything but "h2" for HTTP/1. Without, it looks at the first bytes.
func httpChains(names portChains, policies []stage, forwardCert bool, cfg *config.Mesh) []*listenerv3.FilterChain {
	mtls, plain := inboundConnectionManager(policies, forwardCert), inboundConnectionManager(policies, forwardCert)
	logPlainHTTP(plain)
	return []*listenerv3.FilterChain{
		{Name: names.mtls, TransportSocket: calledTLS(cfg.MTLS), Filters: []*listenerv3.Filter{connectionManager(mtls)}},
		{Name: names.plain, Filters: []*listenerv3.Filter{connectionManager(plain)}},
	}
}

func inboundConnectionManager(policies []stage, forwardCert bool) *hcmv3.HttpConnectionManager {
	m := transparent("inbound_http")
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: inboundRoutes}
	m.UpgradeConfigs = upgradeConfigs(inboundUpgrades)
	early := []*mutationv3.HeaderMutation{applicationScheme}
	for _, s := range policies {
		m.HttpFilters = append(m.HttpFilters, s.httpFilter())
	}
	m.HttpFilters = append(m.HttpFilters, routerFilter())
	m.AccessLog = refusalLogs(httpRBAC, policies)
	m.LocalReplyConfig = refusalReplies(policies)
	m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY // as bytes would have been
	if forwardCert {
		// Of a caller without mTLS the header is removed.
		m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
		m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true}
		early = append(early, lookAlikes...)
	}
	m.EarlyHeaderMutationExtensions = earlyMutation(&earlyv3.HeaderMutation{Mutations: early})
	return m
}

// inboundUpgrades have no CONNECT, which Envoy refuses then. Behind any answer of 2xx to one it passes bytes on, and an
// application that knows of no tunnels reads them as further requests, at which nobody has looked. Other upgrades begin
// with an answer of 101, which only who knows them gives.
var inboundUpgrades = slices.DeleteFunc(slices.Clone(upgrades), func(name string) bool { return name == connectMethod })

// applicationScheme is what the application speaks. Envoy would write down that of the connection, which is mTLS of
// the mesh, where the caller's sidecar has passed bytes.
var applicationScheme = &mutationv3.HeaderMutation{
	Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: "x-forwarded-proto", Value: "http"},
		AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT,
	}},
}

// lookAlikes removes what some applications would take for x-forwarded-client-cert: to CGI and its heirs "_" and "-"
// in the name of a header are the same.
var lookAlikes = func() []*mutationv3.HeaderMutation {
	var out []*mutationv3.HeaderMutation
	for _, a := range "-_" {
		for _, b := range "-_" {
			for _, c := range "-_" {
				if name := fmt.Sprintf("x%cforwarded%cclient%ccert", a, b, c); strings.Contains(name, "_") {
					out = append(out, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
				}
			}
		}
	}
	return out
}()

// inboundRoutes send every request to where its connection went.
var inboundRoutes = func() *routev3.RouteConfiguration {
	host := &routev3.VirtualHost{Name: "all", Domains: []string{"*"}}
	for _, match := range routeMatches(mesh.Match{Path: mesh.TextMatch{Type: mesh.Prefix, Value: "/"}}) {
		host.Routes = append(host.Routes, &routev3.Route{Match: match, Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: InboundHTTPCluster},
			Timeout:          durationpb.New(0),
			IdleTimeout:      durationpb.New(0),
		}}})
	}
	return &routev3.RouteConfiguration{
		Name: "inbound", VirtualHosts: []*routev3.VirtualHost{host}, ValidateClusters: wrapperspb.Bool(false),
	}
}()
