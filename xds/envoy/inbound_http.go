package envoy

import (
	"fmt"
	"slices"
	"strings"
	"time"

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

// httpChains returns chains that look at each request, if only to answer refused callers. Connections that are not HTTP
// fail there.
//
// Their TLS chooses no ALPN. The client's offer has already chosen the chain, and Envoy would take every chosen protocol
// but "h2" for HTTP/1. Without a choice it looks at the first bytes.
func httpChains(names portChains, mode config.MTLSMode, how inboundHTTP, cfg *config.Mesh) []*listenerv3.FilterChain {
	chain := func(name string, socket *corev3.TransportSocket, m *hcmv3.HttpConnectionManager) *listenerv3.FilterChain {
		c := &listenerv3.FilterChain{Name: name, TransportSocket: socket}
		if how.callers {
			c.Filters = append(c.Filters, inCallersName())
		}
		c.Filters = append(c.Filters, connectionManager(m))
		return c
	}
	mtls := inboundConnectionManager(how)
	if !how.requests {
		logLongMTLS(mtls)
	}
	out := []*listenerv3.FilterChain{chain(names.mtls, calledTLS(cfg.MTLS), mtls)}
	if mode != config.Strict {
		plain := inboundConnectionManager(how)
		logPlainHTTP(plain)
		out = append(out, chain(names.plain, nil, plain))
	}
	return out
}

// inboundHTTP says why a port is treated as HTTP, and how.
type inboundHTTP struct {
	policies []stage
	// requests is true if policies look at requests.
	requests             bool
	forwardCert, callers bool
	// drainTime is how long a connection goes on after its chain has changed or was removed.
	drainTime time.Duration
}

func inboundConnectionManager(how inboundHTTP) *hcmv3.HttpConnectionManager {
	m := transparent("inbound_http")
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: inboundRoutes[how.callers]}
	// After the drain time Envoy still waits for the peers of connections that it has closed.
	patience := min(patienceForSidecars, how.drainTime/2)
	m.DrainTimeout, m.DelayedCloseTimeout = durationpb.New(how.drainTime-patience), durationpb.New(patience)
	if how.requests || how.forwardCert {
		m.UpgradeConfigs = upgradeConfigs(inboundUpgrades)
	} else {
		// An admitted caller may send any message. The application has a separate connection for each connection of a caller,
		// so a message that its server reads differently harms no other caller.
		m.HttpProtocolOptions.AllowChunkedLength = true
	}
	// Some applications take "delete" for DELETE, but policies do not. Besides, Envoy guarantees nothing for the setting.
	m.HttpProtocolOptions.AllowCustomMethods = !how.requests
	early := []*mutationv3.HeaderMutation{applicationScheme}
	policies := how.policies
	for _, s := range policies {
		m.HttpFilters = append(m.HttpFilters, s.httpFilter())
	}
	m.HttpFilters = append(m.HttpFilters, routerFilter())
	m.AccessLog = append(refusalLogs(httpRBAC, policies), answerLogs(Inbound)...)
	tellLongRequests(m, policies)
	m.LocalReplyConfig = localReplies(Inbound, refusalReplies(policies)...)
	m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY // as a chain of bytes does
	if how.forwardCert {
		// If the caller has no mTLS the header is removed.
		m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
		m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{Uri: true}
		early = append(early, lookAlikes...)
	}
	m.EarlyHeaderMutationExtensions = earlyMutation(&earlyv3.HeaderMutation{Mutations: early})
	return m
}

// inboundUpgrades has no CONNECT, so Envoy refuses it. After any 2xx answer to a CONNECT Envoy would pass bytes on, and an
// application without tunnels would read them as further requests, which no policy has seen. Other upgrades begin with a
// 101 answer, which only a server that supports them sends.
var inboundUpgrades = slices.DeleteFunc(slices.Clone(upgrades), func(name string) bool { return name == connectMethod })

// applicationScheme sets the scheme that the application speaks. If the caller's sidecar has passed on bytes, Envoy would
// write the scheme of the connection, which is mTLS of the mesh.
var applicationScheme = &mutationv3.HeaderMutation{
	Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: "x-forwarded-proto", Value: "http"},
		AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT,
	}},
}

// lookAlikes removes headers that some applications would take for x-forwarded-client-cert: CGI and interfaces like it
// treat "_" and "-" in the name of a header as the same.
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

// inboundRoutes send every request to the address that its connection was made to. By whether the application sees the
// caller's address.
var inboundRoutes = map[bool]*routev3.RouteConfiguration{false: everyRequestTo(InboundHTTPCluster), true: everyRequestTo(CallersHTTPCluster)}

func everyRequestTo(cluster string) *routev3.RouteConfiguration {
	host := &routev3.VirtualHost{Name: "all", Domains: []string{"*"}, RequestHeadersToAdd: refererAgain}
	for _, match := range routeMatches(mesh.Match{Path: mesh.TextMatch{Type: mesh.Prefix, Value: "/"}}) {
		host.Routes = append(host.Routes, &routev3.Route{Match: match, Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
			Timeout:          durationpb.New(0),
			IdleTimeout:      durationpb.New(0),
		}}})
	}
	return &routev3.RouteConfiguration{
		Name: "inbound", VirtualHosts: []*routev3.VirtualHost{host}, ValidateClusters: wrapperspb.Bool(false),
		RequestHeadersToRemove: []string{refererHeader},
	}
}
