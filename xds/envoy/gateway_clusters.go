package envoy

import (
	"maps"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// What a gateway speaks to a Service port. Its clients' versions of HTTP say nothing about the server.
const (
	kindHTTP1 = "http1"
	kindHTTP2 = "http2"
	kindTCP   = "tcp"
	kindUDP   = "udp"
)

// gatewayKind returns what a gateway speaks to a backend of a rule for requests.
func gatewayKind(r mesh.Rule, target mesh.Target) string {
	if target.HTTP2 || r.Origin.Route.Kind == mesh.KindGRPCRoute {
		return kindHTTP2
	}
	return kindHTTP1
}

// gatewayClusterName returns the name of a cluster of gateways: "gateway/<kind>/<namespace>/<service>/<port>", followed by
// "/ipv6" for IPv6.
func gatewayClusterName(kind string, k mesh.EndpointsKey) string {
	return "gateway/" + kind + "/" + strings.TrimPrefix(OutboundName(mesh.EndpointsKey{Service: k.Service, Port: k.Port, Family: k.Family}), "outbound/")
}

// GatewayClusters returns the clusters by which gateways call a Service, in the first of its IP families. They are lazy: a
// gateway gets those that its routes and listeners name.
func GatewayClusters(svc *mesh.Service, cfg *config.Mesh) []Resource {
	families := svc.Families()
	if !svc.Gateways || len(families) == 0 {
		return nil
	}
	var out []Resource
	add := func(variant string, c *clusterv3.Cluster) {
		out = append(out, Resource{Type: ClusterType, Name: c.Name, Variant: variant, Namespace: svc.Namespace, Lazy: true, Message: c})
	}
	for _, port := range svc.Ports {
		key := mesh.EndpointsKey{Service: svc.Key, Port: port.Number, Family: families[0]}
		variants := map[string]string{"": ""} // client certificates by owner
		tls, secured := svc.BackendTLS[port.Number]
		if secured {
			maps.Copy(variants, svc.ClientCertificates)
		}
		for _, variant := range slices.Sorted(maps.Keys(variants)) {
			for _, kind := range []string{kindHTTP1, kindHTTP2} {
				for _, mirror := range []bool{false, true} {
					c := gatewayHTTPCluster(kind, mirror, svc, key, cfg)
					if secured {
						callWithTLS(c, tls, variants[variant], kind)
					}
					add(variant, c)
				}
			}
			c := tcpCluster(gatewayClusterName(kindTCP, key), svc, key, cfg)
			if secured {
				callWithTLS(c, tls, variants[variant], kindTCP)
			}
			add(variant, c)
		}
	}
	for _, port := range svc.UDP {
		add("", udpCluster(svc, mesh.EndpointsKey{Service: svc.Key, Port: port.Number, Family: families[0], UDP: true}, cfg))
	}
	return out
}

// gatewayHTTPCluster is the httpCluster of a sidecar, or its cluster for copies, with a version of HTTP.
func gatewayHTTPCluster(kind string, mirror bool, svc *mesh.Service, key mesh.EndpointsKey, cfg *config.Mesh) *clusterv3.Cluster {
	options := version(kind)
	var c *clusterv3.Cluster
	if mirror {
		c = edgeMirror(svc, key, cfg)
		c.Name = mirrorPrefix + gatewayClusterName(kind, key)
		options.CommonHttpProtocolOptions.MaxStreamDuration = durationpb.New(mirrorTime)
	} else {
		c = httpCluster(svc, key, cfg)
		c.Name = gatewayClusterName(kind, key)
	}
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: toAny(options)}
	return c
}

// edgeMirror has no policy of the Service, and no part in what ejects its endpoints.
func edgeMirror(svc *mesh.Service, key mesh.EndpointsKey, cfg *config.Mesh) *clusterv3.Cluster {
	plain := &mesh.Service{Key: svc.Key, ClusterIPs: svc.ClusterIPs, Headless: svc.Headless, Identities: svc.Identities, Policy: ejectsNone}
	c := edsCluster("", plain, key, SpeaksHTTP, cfg)
	c.CircuitBreakers = mirrorBounds()
	watchCalls(c, cfg.Traffic.PeerTimeout.Duration)
	return c
}

func version(kind string) *upstreamhttpv3.HttpProtocolOptions {
	explicit := &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{}
	if kind == kindHTTP2 {
		explicit.ProtocolConfig = &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: http2Options()}
	} else {
		explicit.ProtocolConfig = &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: upstreamHTTP1()}
	}
	return &upstreamhttpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: upstreamLimits(),
		UpstreamProtocolOptions:   &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
	}
}

// callWithTLS replaces mTLS of the mesh by TLS to the application. A server of HTTP/1 may choose HTTP/2.
func callWithTLS(c *clusterv3.Cluster, tls mesh.BackendTLS, certificate, kind string) {
	c.TransportSocketMatches = nil
	if tls.Invalid {
		c.TransportSocket = nobodyTLS()
		return
	}
	switch kind {
	case kindHTTP2:
		c.TransportSocket = backendTLS(tls, certificate, "h2")
	case kindTCP:
		c.TransportSocket = backendTLS(tls, certificate)
	default:
		c.TransportSocket = backendTLS(tls, certificate, "h2", "http/1.1")
		options := &upstreamhttpv3.HttpProtocolOptions{}
		if err := c.TypedExtensionProtocolOptions[httpOptionsKey].UnmarshalTo(options); err != nil {
			panic(err) // this package made it
		}
		options.UpstreamProtocolOptions = &upstreamhttpv3.HttpProtocolOptions_AutoConfig{
			AutoConfig: &upstreamhttpv3.HttpProtocolOptions_AutoHttpConfig{
				HttpProtocolOptions: upstreamHTTP1(), Http2ProtocolOptions: http2Options(),
			},
		}
		c.TypedExtensionProtocolOptions[httpOptionsKey] = toAny(options)
	}
}

// udpCluster has no mTLS, and none of the options of TCP sockets.
func udpCluster(svc *mesh.Service, key mesh.EndpointsKey, cfg *config.Mesh) *clusterv3.Cluster {
	c := edsCluster(gatewayClusterName(kindUDP, key), svc, key, speaksBytes, cfg)
	c.TransportSocket, c.TransportSocketMatches, c.UpstreamBindConfig, c.OutlierDetection = nil, nil, nil, nil
	return c
}
