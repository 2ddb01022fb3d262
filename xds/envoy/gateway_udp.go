package envoy

import (
	"time"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	udpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/udp/udp_proxy/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	fractionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/runtime_fraction/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// udpIdleTime ends a session, which is the datagrams between a client's port and the listener.
const udpIdleTime = time.Minute

// datagrams passes the sessions of a UDP listener on.
func (b *socketBuilder) datagrams(l mesh.Listener) {
	t, action := translation{cfg: b.cfg, edge: &edge{}}, &mesh.Action{Refuse: true}
	if len(l.Connections) > 0 {
		action = l.Connections[0].Action
	}
	b.need(t, kindUDP, action)
	b.filters = append(b.filters, &listenerv3.ListenerFilter{
		Name: "envoy.filters.udp_listener.udp_proxy",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&udpv3.UdpProxyConfig{
			StatPrefix:     "gateway_udp",
			RouteSpecifier: &udpv3.UdpProxyConfig_Matcher{Matcher: t.sessions(action)},
			IdleTimeout:    durationpb.New(udpIdleTime),
			HashPolicies: []*udpv3.UdpProxyConfig_HashPolicy{{ // read only by clusters that hash
				PolicySpecifier: &udpv3.UdpProxyConfig_HashPolicy_SourceIp{SourceIp: true},
			}},
		})},
	})
}

// sessions shares sessions by weight. Envoy has no weights here. A hash of the client's port, which is another one for almost
// every session, decides for each backend in turn whether it takes the session: with its share of what those before left. An
// invalid backend's sessions go nowhere.
func (t translation) sessions(a *mesh.Action) *matcherv3.Matcher {
	var backends []mesh.Backend
	var left uint64
	for _, b := range a.Backends {
		if b.Weight > 0 {
			backends = append(backends, b)
			left += uint64(b.Weight)
		}
	}
	cluster := func(b mesh.Backend) string {
		if !b.Valid {
			return UnresolvedCluster
		}
		return gatewayClusterName(kindUDP, t.endpoints(b.Target))
	}
	if len(backends) == 0 {
		backends = []mesh.Backend{{}}
	}
	last := len(backends) - 1
	out := &matcherv3.Matcher{OnNoMatch: udpRoute(cluster(backends[last]))}
	if last == 0 {
		return out
	}
	list := &matcherv3.Matcher_MatcherList{}
	for i, b := range backends[:last] {
		list.Matchers = append(list.Matchers, &matcherv3.Matcher_MatcherList_FieldMatcher{
			Predicate: &matcherv3.Matcher_MatcherList_Predicate{MatchType: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
				SinglePredicate: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
					Input: extension("source_port", &networkv3.SourcePortInput{}),
					Matcher: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch{
						CustomMatch: share(uint64(b.Weight), left, uint64(i)),
					},
				},
			}},
			OnMatch: udpRoute(cluster(b)),
		})
		left -= uint64(b.Weight)
	}
	out.MatcherType = &matcherv3.Matcher_MatcherList_{MatcherList: list}
	return out
}

// share matches a part of the values of an input. Another seed matches independently.
func share(part, of, seed uint64) *xdscorev3.TypedExtensionConfig {
	const million = 1_000_000
	return extension("share", &fractionv3.RuntimeFraction{Seed: seed, RuntimeFraction: &corev3.RuntimeFractionalPercent{
		DefaultValue: &typev3.FractionalPercent{Numerator: uint32(part * million / of), Denominator: typev3.FractionalPercent_MILLION},
	}})
}

func udpRoute(cluster string) *matcherv3.Matcher_OnMatch {
	return &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Action{Action: extension("route", &udpv3.Route{Cluster: cluster})}}
}
