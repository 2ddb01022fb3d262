package envoy

import (
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	inspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// mtlsChain is the name of the chain that terminates mTLS of the mesh.
const mtlsChain = "mtls"

// SecureInboundListeners returns the inbound listener of pods that accept the connections in in: in the class in.String(),
// in a variant for each combination of IP families.
//
// A caller's sidecar begins with TLS and our own ALPN. Everything else is plain text, or an application's own TLS. A
// permissive port passes that on as it came, and a strict port refuses it.
//
// A client that sends nothing may be waiting for the server to speak first, so it counts as plain text after the timeout of
// protocol detection. If the first bytes of a caller in the mesh come later than that, they are passed on, too: the
// application gets the beginning of a handshake, no plain text, and the caller connects again.
func SecureInboundListeners(in mesh.Inbound, cfg *config.Mesh) []Resource {
	var out []Resource
	for _, callers := range []bool{false, true} {
		out = append(out, secureInbound(in, cfg, callers)...)
	}
	for i := range out {
		out[i].Class = in.String()
	}
	return out
}

// secureInbound returns the listener for proxies that can call the application from its callers' addresses, or for those
// that cannot.
func secureInbound(in mesh.Inbound, cfg *config.Mesh, callers bool) []Resource {
	out := listeners(InboundListener.Name, func(f families) *listenerv3.Listener {
		l := &listenerv3.Listener{
			FilterChainMatcher:               inboundMatcher(in),
			FilterChains:                     inboundChains(in, cfg, callers),
			ListenerFilters:                  []*listenerv3.ListenerFilter{originalDst(), tlsInspector()},
			ListenerFiltersTimeout:           durationpb.New(cfg.Detection.Timeout.Duration),
			ContinueOnListenerFiltersTimeout: true,
		}
		f.bind(l, anyIPv4, anyIPv6, inboundPort)
		watchInbound(l, cfg)
		return l
	})
	for i := range out {
		out[i].Variant = string(families(out[i].Variant).with(callers))
	}
	return out
}

func byALPN(mode config.MTLSMode, to portChains) *matcherv3.Matcher {
	mtls := chain(to.mtls)
	if to.http != "" { // both chains have the same policies, so a false claim wins nothing
		said := exact(extension("server_name", &networkv3.ServerNameInput{}), map[string]*matcherv3.Matcher_OnMatch{SpeaksHTTP: chain(to.http)})
		said.OnNoMatch = mtls
		mtls = nested(said)
	}
	m := exact(extension("application_protocol", &networkv3.ApplicationProtocolInput{}),
		map[string]*matcherv3.Matcher_OnMatch{"'" + ALPN + "'": mtls})
	m.OnNoMatch = chain(to.plain)
	if mode == config.Strict {
		m.OnNoMatch = chain(refuseChain)
	}
	return m
}

// tlsInspector reads the ALPN of a ClientHello.
func tlsInspector() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name:       "envoy.filters.listener.tls_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&inspectorv3.TlsInspector{})},
	}
}
