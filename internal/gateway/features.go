package gateway

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/pkg/features"
)

// Features returns the features that Gateways of Mizzen support, sorted. The conformance suite tests them.
// https://gateway-api.sigs.k8s.io/geps/gep-2162/
func Features() []gatewayv1.FeatureName {
	var out []gatewayv1.FeatureName
	for name := range features.SetsToNamesSet(
		features.GatewayCoreFeatures, features.GatewayExtendedFeatures,
		features.HTTPRouteCoreFeatures, features.HTTPRouteExtendedFeatures,
		features.GRPCRouteCoreFeatures, features.GRPCRouteExtendedFeatures,
		features.TLSRouteCoreFeatures, features.TLSRouteExtendedFeatures,
		features.TCPRouteExtendedFeatures, features.UDPRouteFeatures,
		features.ReferenceGrantCoreFeatures,
		features.BackendTLSPolicyCoreFeatures, features.BackendTLSPolicyExtendedFeatures,
	) {
		out = append(out, gatewayv1.FeatureName(name))
	}
	slices.Sort(out)
	return out
}
